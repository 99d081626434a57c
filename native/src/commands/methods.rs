//! `avascope methods`.

use super::print_line;
use anyhow::Result;
use avascope::credit::CREDITS;
use avascope::objective::METHODS;

/// Lists the credits with their sources.
pub fn credits(json: bool) -> Result<()> {
    if json {
        let credits: Vec<_> = CREDITS
            .iter()
            .map(|c| serde_json::json!({"name": c.name, "title": c.title, "citation": c.citation}))
            .collect();
        return print_line(&serde_json::to_string_pretty(&credits)?);
    }
    for credit in CREDITS {
        print_line(&format!(
            "{}\n    {}\n    {}",
            credit.name, credit.title, credit.citation
        ))?;
    }
    Ok(())
}

/// Lists the methods with their switches, their sources, and which switches are what the source names.
pub fn run(json: bool) -> Result<()> {
    let default = avascope::train::TrainConfig::default().method;
    if json {
        let methods: Vec<_> = METHODS
            .iter()
            .map(|m| {
                let variants: Vec<_> = m
                    .variants
                    .iter()
                    .map(|v| serde_json::json!({"name": v.name, "note": v.note, "options": v.options()}))
                    .collect();
                serde_json::json!({
                    "name": m.name,
                    "default": m.name == default,
                    "title": m.title,
                    "citation": m.citation,
                    "defaults": (m.defaults)(),
                    "variants": variants,
                })
            })
            .collect();
        return print_line(&serde_json::to_string_pretty(&methods)?);
    }
    print_line(&format!(
        "Begin with `{default}` (the default) on preference pairs, and hold it against `bradley_terry_sum`, which is simpler; demonstrations (good answers alone) go with `ava_d`.\nWhat a source names is chosen by that name: `train --variant NAME`, or `variant = \"NAME\"` in a file of `compare`.\n"
    ))?;
    for method in METHODS {
        let mark = match method.name == default {
            true => "   (the default)",
            false => "",
        };
        print_line(&format!(
            "{}{mark}\n    {}\n    {}",
            method.name, method.title, method.citation
        ))?;
        if let serde_json::Value::Object(options) = (method.defaults)() {
            for (name, value) in options {
                print_line(&format!("      -O {name}={value}"))?;
            }
        }
        for variant in method.variants {
            let switches: Vec<String> = variant
                .options
                .iter()
                .map(|(name, value)| format!("-O {name}={value}"))
                .collect();
            print_line(&format!(
                "    --variant \"{}\": {}\n        {}",
                variant.name,
                switches.join(" "),
                variant.note
            ))?;
        }
    }
    Ok(())
}
