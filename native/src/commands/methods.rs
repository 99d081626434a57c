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

/// Lists the methods with their switches and sources.
pub fn run(json: bool) -> Result<()> {
    if json {
        let methods: Vec<_> = METHODS
            .iter()
            .map(|m| serde_json::json!({"name": m.name, "title": m.title, "citation": m.citation, "defaults": (m.defaults)()}))
            .collect();
        return print_line(&serde_json::to_string_pretty(&methods)?);
    }
    for method in METHODS {
        print_line(&format!(
            "{}\n    {}\n    {}",
            method.name, method.title, method.citation
        ))?;
        if let serde_json::Value::Object(options) = (method.defaults)() {
            for (name, value) in options {
                print_line(&format!("      -O {name}={value}"))?;
            }
        }
    }
    Ok(())
}
