//! `avascope bench`.
use crate::args::BenchArgs;
use anyhow::Result;
pub fn run(_args: BenchArgs) -> Result<()> {
    Ok(())
}
