//! Decisions from a fuzzer's bytes. When the bytes are used up, each decision is its first option.

pub struct Bytes<'a>(pub &'a [u8]);

impl<'a> Bytes<'a> {
    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    pub fn below(&mut self, bound: usize) -> usize {
        usize::from(self.byte()) % bound.max(1)
    }

    pub fn of<T: Copy>(&mut self, some: &[T]) -> T {
        some[self.below(some.len())]
    }

    /// Up to 255 bytes, unchanged.
    pub fn raw(&mut self) -> &'a [u8] {
        let size = usize::from(self.byte()).min(self.0.len());
        let (raw, rest) = self.0.split_at(size);
        self.0 = rest;
        raw
    }
}
