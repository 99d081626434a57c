//! The learning rate over a run: a straight rise, then the chosen fall. The values are transformers' ones.

use super::Schedule;

/// The factor on the peak learning rate for the step after `step` taken ones, of `total`.
pub fn factor(schedule: Schedule, warmup_ratio: f64, step: usize, total: usize) -> f64 {
    let warmup = (warmup_ratio.clamp(0.0, 1.0) * total as f64).ceil() as usize;
    if step < warmup {
        // The first step already moves: a rate of exactly zero would waste its batch.
        return (step + 1) as f64 / (warmup + 1) as f64;
    }
    let left = total.saturating_sub(warmup).max(1) as f64;
    let progress = ((step - warmup) as f64 / left).clamp(0.0, 1.0);
    match schedule {
        Schedule::Constant => 1.0,
        Schedule::Linear => 1.0 - progress,
        Schedule::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_rises_to_its_peak_and_falls_to_zero() {
        for schedule in [Schedule::Linear, Schedule::Cosine] {
            let rates: Vec<f64> = (0..100).map(|s| factor(schedule, 0.1, s, 100)).collect();
            assert!(rates[..10].windows(2).all(|w| w[0] < w[1]));
            assert_eq!(rates[10], 1.0);
            assert!(rates[10..].windows(2).all(|w| w[0] > w[1]));
            assert!(rates[99] < 0.02);
        }
        assert_eq!(factor(Schedule::Constant, 0.0, 50, 100), 1.0);
    }

    #[test]
    fn a_run_without_steps_or_warm_up_divides_by_nothing() {
        assert!(factor(Schedule::Cosine, 0.0, 0, 0).is_finite());
        assert!(factor(Schedule::Linear, 1.0, 5, 5).is_finite());
    }
}
