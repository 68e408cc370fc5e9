//! The identifiers of an order, and the challenge types for each: checked before anything is sent.

use super::challenge::ChallengeType;
use super::limits::MAX_NAMES;
use crate::error::{Error, Result};
use crate::resource::identifier::Identifier;
use crate::text::printable;

/// Identifiers, and the challenge types that are acceptable for each.
#[derive(Clone, Debug)]
pub(crate) struct IdentifierPlan {
    /// The identifiers of the order.
    pub ordered: Vec<Identifier>,
    /// Acceptable types, best first, for the identifiers without a type of their own.
    types: Vec<ChallengeType>,
    /// The identifiers with a type of their own.
    by_name: Vec<(Identifier, [ChallengeType; 1])>,
    /// The name whose authorization is valid for the names below it (RFC 9444).
    pub ancestor: Option<Identifier>,
}

impl IdentifierPlan {
    /// Checks the names. Refuses a name that no acceptable challenge type can validate.
    pub(super) fn new(
        names: &[String],
        types: Vec<ChallengeType>,
        by_name: &[(String, ChallengeType)],
        ancestor: Option<&str>,
    ) -> Result<IdentifierPlan> {
        let identifiers = canonical(names)?;
        if types.is_empty() {
            return Err(Error::invalid_argument("there is no challenge type to choose from"));
        }
        let by_name = by_name.iter().map(|(name, kind)| {
            let identifier = Identifier::from_name(name)?;
            match identifiers.contains(&identifier) {
                true => Ok((identifier, [*kind])),
                false => {
                    let text = printable(name, 100);
                    let why = format!("a challenge type is given for {text}, which is not ordered");
                    Err(Error::invalid_argument(why).about(&text))
                }
            }
        });
        let by_name = by_name.collect::<Result<_>>()?;
        let ancestor = ancestor.map(|name| ancestor_of(name, &identifiers)).transpose()?;
        let plan = IdentifierPlan { ordered: identifiers, types, by_name, ancestor };
        let mut with_own_type = plan.by_name.iter().map(|(identifier, _)| identifier);
        if let Some(both) = with_own_type.find(|id| plan.ancestor_of(id).is_some()) {
            let why = "is proven by the ancestor domain, and has a challenge type of its own";
            let why = format!("{} {why}", both.value);
            return Err(Error::invalid_argument(why).about(&both.value));
        }
        for identifier in &plan.ordered {
            let authorized = plan.ancestor_of(identifier).unwrap_or(identifier);
            let mut types = plan.types_for(identifier).iter();
            if !types.any(|kind| kind.can_validate(authorized)) {
                let types: Vec<&str> =
                    plan.types_for(identifier).iter().map(|kind| kind.as_str()).collect();
                let why = match identifier.is_wildcard() {
                    true => "a wildcard can be proven by dns-01 and its kin only, not by",
                    false => "this name cannot be proven by",
                };
                return Err(Error::invalid_argument(format!(
                    "{}: {why} {}",
                    identifier.value,
                    types.join(", ")
                ))
                .about(&identifier.value));
            }
        }
        Ok(plan)
    }

    /// Acceptable types of challenge for this identifier, best first.
    pub(super) fn types_for(&self, identifier: &Identifier) -> &[ChallengeType] {
        let own = self.by_name.iter().find(|(named, _)| named == identifier);
        own.map_or(&self.types, |(_, own)| own)
    }

    /// The name above this one that is authorized in its place.
    pub(super) fn ancestor_of(&self, identifier: &Identifier) -> Option<&Identifier> {
        self.ancestor.as_ref().filter(|ancestor| identifier.is_below(&ancestor.value))
    }
}

fn ancestor_of(name: &str, identifiers: &[Identifier]) -> Result<Identifier> {
    let ancestor = Identifier::from_name(name)?;
    let refuse = |why: &str| {
        let why = format!("the ancestor domain {} {why}", ancestor.value);
        Err(Error::invalid_argument(why).about(&ancestor.value))
    };
    if ancestor.type_ != "dns" || ancestor.is_wildcard() {
        return refuse("is not a plain DNS name");
    }
    if !identifiers.iter().any(|identifier| identifier.is_below(&ancestor.value)) {
        return refuse("is above none of the names");
    }
    Ok(ancestor)
}

/// Makes identifiers of the names. Refuses a name that is listed twice.
pub(super) fn canonical(names: &[String]) -> Result<Vec<Identifier>> {
    if names.is_empty() || names.len() > MAX_NAMES {
        return Err(Error::invalid_argument(format!(
            "an order has 1 to {MAX_NAMES} names, not {}",
            names.len()
        )));
    }
    let mut identifiers: Vec<Identifier> = Vec::with_capacity(names.len());
    for name in names {
        let identifier = Identifier::from_name(name)?;
        if identifiers.contains(&identifier) {
            let why = format!("the name {} stands twice in the order", identifier.value);
            return Err(Error::invalid_argument(why).about(&identifier.value));
        }
        identifiers.push(identifier);
    }
    Ok(identifiers)
}
