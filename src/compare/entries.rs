//! What the `[[method]]` of a configuration say in short, spelled out: a star, and variants.

use super::config::{CompareConfig, EVERY_METHOD, MethodEntry};
use super::error::{CompareError, wrong};
use crate::objective::{METHODS, Method, RowKind, VARIANT};
use serde_json::Value;

/// The configuration with every method by its own name and every variant as options, and the methods that a star does not
/// stand for.
pub(super) fn spelled_out(
    mut config: CompareConfig,
) -> Result<(CompareConfig, Vec<&'static str>), CompareError> {
    let given = std::mem::take(&mut config.methods);
    let is_star = |entry: &&MethodEntry| entry.name == EVERY_METHOD;
    if given.iter().filter(is_star).count() > 1 {
        return wrong(format!(
            "two `[[method]]` have the name `{EVERY_METHOD}`, which stands for every method; keep one"
        ));
    }
    let mut left_out = Vec::new();
    for entry in &given {
        if entry.name != EVERY_METHOD {
            config.methods.push(with_variant(entry.clone())?);
            continue;
        }
        let of_star = MethodEntry {
            tune: entry.tune.clone(),
            ..MethodEntry::plain(EVERY_METHOD)
        };
        if *entry != of_star {
            return wrong(format!(
                "a `[[method]]` with the name `{EVERY_METHOD}` stands for every method, and takes `tune` alone beside it; what one method needs stands in a `[[method]]` of its own, which takes its place"
            ));
        }
        for method in METHODS {
            if given.iter().any(|entry| entry.name == method.name) {
                continue;
            }
            match needs_no_column(method) {
                true => config.methods.push(MethodEntry {
                    name: method.name.into(),
                    ..of_star.clone()
                }),
                false => left_out.push(method.name),
            }
        }
    }
    Ok((config, left_out))
}

/// Whether a method with its default options trains on any pairs: on both answers, or on the chosen one.
fn needs_no_column(method: &Method) -> bool {
    (method.build)(&Value::Null).is_ok_and(|objective| {
        objective.rows() != RowKind::Unpaired
            && objective.strength().is_none()
            && !objective.needs_margin()
    })
}

/// An entry whose options hold those of its variant.
fn with_variant(mut entry: MethodEntry) -> Result<MethodEntry, CompareError> {
    let method = METHODS.iter().find(|method| method.name == entry.name);
    // A method that is not known is told when its system is made, with those that are.
    let (Some(name), Some(method)) = (&entry.variant, method) else {
        return Ok(entry);
    };
    let variant = method.variant(name).map_err(|error| CompareError::Train {
        place: entry.name.clone(),
        error: error.into(),
    })?;
    if entry.options.contains_key(VARIANT) {
        return wrong(format!(
            "{}: `variant` stands under `options`, too; keep one",
            entry.name
        ));
    }
    let sets = |setting: &&String| variant.options.iter().any(|(name, _)| name == setting);
    if let Some(setting) = entry.tune.keys().find(sets) {
        return wrong(format!(
            "{}: the variant `{name}` sets `{setting}`, and `tune` lists values for it; keep one",
            entry.name
        ));
    }
    if let Value::Object(mut all) = variant.options() {
        all.append(&mut entry.options);
        entry.options = all;
    }
    Ok(entry)
}
