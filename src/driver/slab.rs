//! A slab whose keys are never used twice: it holds the operations of a driver.

/// The key of a value in a [`Slab`]. After the value is removed, the key finds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    slot: u32,
    /// Number of values that the slot has held before.
    generation: u32,
}

/// Values by their keys.
pub(super) struct Slab<V> {
    slots: Vec<Slot<V>>,
    free: Vec<u32>,
}

struct Slot<V> {
    generation: u32,
    value: Option<V>,
}

impl<V> Slab<V> {
    pub(super) fn new() -> Slab<V> {
        Slab { slots: Vec::new(), free: Vec::new() }
    }

    /// Inserts the value that `make` returns for its key. `None`: the slab is full, with four
    /// billion values.
    pub(super) fn insert(&mut self, make: impl FnOnce(Key) -> V) -> Option<Key> {
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                let index = u32::try_from(self.slots.len()).ok()?;
                self.slots.push(Slot { generation: 0, value: None });
                index
            }
        };
        let slot = self.slots.get_mut(index as usize)?;
        let key = Key { slot: index, generation: slot.generation };
        slot.value = Some(make(key));
        Some(key)
    }

    pub(super) fn get(&self, key: Key) -> Option<&V> {
        let slot = self.slots.get(key.slot as usize)?;
        slot.value.as_ref().filter(|_| slot.generation == key.generation)
    }

    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut V> {
        let slot = self.slots.get_mut(key.slot as usize)?;
        slot.value.as_mut().filter(|_| slot.generation == key.generation)
    }

    pub(super) fn remove(&mut self, key: Key) -> Option<V> {
        self.get(key)?;
        let slot = self.slots.get_mut(key.slot as usize)?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(key.slot);
        slot.value.take()
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.slots.iter().filter_map(|slot| slot.value.as_ref())
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_names_its_own_value_only() {
        let mut slab = Slab::new();
        let a = slab.insert(|_| "a").unwrap();
        let b = slab.insert(|_| "b").unwrap();
        assert_eq!((slab.get(a), slab.get(b), slab.len()), (Some(&"a"), Some(&"b"), 2));
        assert_eq!((slab.remove(a), slab.remove(a)), (Some("a"), None));
        let c = slab.insert(|key| if key == a { "a again" } else { "c" }).unwrap();
        assert_eq!((slab.get(a), slab.get(c), slab.len()), (None, Some(&"c"), 2));
        *slab.get_mut(c).unwrap() = "changed";
        assert!(slab.get_mut(a).is_none());
        assert_eq!(slab.values().copied().collect::<Vec<_>>(), ["changed", "b"]);
    }
}
