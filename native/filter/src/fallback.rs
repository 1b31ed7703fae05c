//! Which model serves an alias while no picker can be asked.
//!
//! A pool that fails open would otherwise send the alias itself, which no server knows. So the route
//! carries the pool's targets and weights, and one is drawn here. Stickiness is the picker's: without it
//! every request is drawn anew.

use std::collections::HashMap;

use serde::Deserialize;

/// Alias to targets with their weights; the empty alias stands for every other model.
#[derive(Deserialize, Clone, Default, PartialEq, Eq, Debug)]
#[serde(transparent)]
pub struct Fallback(HashMap<String, Vec<(String, u32)>>);

impl Fallback {
    /// An error when an alias has no target that can be drawn.
    pub fn check(&self) -> Result<(), String> {
        let bad = self.0.iter().find(|(_, targets)| total(targets) == 0);
        bad.map_or(Ok(()), |(alias, _)| {
            Err(format!("rewrites: no target with a weight for {alias:?}"))
        })
    }

    /// The target for a model; None when it keeps its name. `number` is the stream's, which makes the
    /// draw: streams count up, so it is mixed first.
    pub fn target(&self, model: &str, number: u64) -> Option<&str> {
        if self.0.is_empty() || model.is_empty() {
            return None;
        }
        let targets = self.0.get(model).or_else(|| self.0.get(""))?;
        let mut left = mixed(number) % total(targets).max(1);
        for (target, weight) in targets {
            match left.checked_sub(u64::from(*weight)) {
                Some(rest) => left = rest,
                None => return Some(target),
            }
        }
        None
    }
}

fn total(targets: &[(String, u32)]) -> u64 {
    targets.iter().map(|(_, weight)| u64::from(*weight)).sum()
}

/// SplitMix64's finalizer: neighbouring numbers give independent bits.
fn mixed(number: u64) -> u64 {
    let mut bits = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(json: &str) -> Fallback {
        serde_json::from_str(json).expect("valid")
    }

    #[test]
    fn draws_by_weight() {
        let table = table(r#"{"llm": [["v1", 9], ["v2", 1]]}"#);
        let counted = (0..10_000)
            .filter(|number| table.target("llm", *number) == Some("v2"))
            .count();
        // Five standard deviations.
        assert!((850..=1150).contains(&counted), "{counted}");
        assert_eq!(table.target("v1", 7), None);
    }

    #[test]
    fn an_own_alias_comes_before_every_other_model() {
        let table = table(r#"{"": [["any", 1]], "llm": [["v1", 3], ["off", 0]]}"#);
        assert_eq!(table.target("llm", 5), Some("v1"));
        assert_eq!(table.target("other", 5), Some("any"));
        assert_eq!(table.target("", 5), None);
    }

    #[test]
    fn an_alias_without_target_is_refused() {
        assert!(table(r#"{"llm": []}"#).check().is_err());
        assert!(table(r#"{"llm": [["v1", 0]]}"#).check().is_err());
        assert!(table("{}").check().is_ok());
    }
}
