//! Percentile bootstrap with a fixed seed: the same data and seed give the same interval on every machine.

use super::{EvalError, Interval};

/// SplitMix64 (Steele, Lea and Flood 2014): eight bytes of state, enough for resampling, never for secrets.
#[derive(Clone, Debug)]
pub struct SplitMix64(u64);

impl SplitMix64 {
    /// The stream of `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// 64 uniform bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform in `0..n`; 0 for n = 0. The multiply-shift bias is below n / 2^64.
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next_u64()) * n as u128) >> 64) as usize
    }

    /// Fisher-Yates.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}

/// How to resample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bootstrap {
    /// Resamples; 0 switches the interval off. 1000 puts the noise of a 95 % end point at a few per cent of its width.
    pub draws: usize,
    /// Confidence level in (0, 1).
    pub level: f64,
    /// Seed of the resampling.
    pub seed: u64,
}

impl Default for Bootstrap {
    fn default() -> Self {
        Self {
            draws: 1000,
            level: 0.95,
            seed: 0,
        }
    }
}

impl Bootstrap {
    /// No interval.
    pub const OFF: Self = Self {
        draws: 0,
        level: 0.95,
        seed: 0,
    };

    /// Percentile interval of `statistic` over `n` rows. The statistic sees how often each row was drawn (`[n]`, sum n)
    /// and may answer `None` where it is not defined on that resample; such resamples are left out. `None` when there
    /// is nothing to resample, or less than half of the resamples have a value.
    ///
    /// # Errors
    /// The level is not in (0, 1).
    pub fn interval(
        &self,
        n: usize,
        mut statistic: impl FnMut(&[u32]) -> Option<f64>,
    ) -> Result<Option<Interval>, EvalError> {
        check_level(self.level)?;
        if n == 0 || self.draws == 0 {
            return Ok(None);
        }
        let mut random = SplitMix64::new(self.seed);
        let mut counts = vec![0u32; n];
        let mut values = Vec::new();
        for _ in 0..self.draws {
            counts.fill(0);
            for _ in 0..n {
                counts[random.below(n)] += 1;
            }
            values.extend(statistic(&counts).filter(|v| v.is_finite()));
        }
        if values.is_empty() || values.len() * 2 < self.draws {
            return Ok(None);
        }
        values.sort_by(f64::total_cmp);
        let tail = (1.0 - self.level) / 2.0;
        let (low, high) = (quantile(&values, tail), quantile(&values, 1.0 - tail));
        Ok(Some(Interval {
            low,
            high,
            level: self.level,
        }))
    }
}

/// A confidence level is in (0, 1).
pub(crate) fn check_level(level: f64) -> Result<(), EvalError> {
    if level > 0.0 && level < 1.0 {
        return Ok(());
    }
    Err(EvalError::Range {
        what: "confidence level",
        value: level,
        need: "between 0 and 1, such as 0.95",
    })
}

/// Quantile with linear interpolation between order statistics (Hyndman and Fan's type 7) of sorted, non-empty values.
pub(crate) fn quantile(sorted: &[f64], q: f64) -> f64 {
    let at = q * (sorted.len() - 1) as f64;
    let (low, high) = (at.floor() as usize, at.ceil() as usize);
    sorted[low] + (sorted[high.min(sorted.len() - 1)] - sorted[low]) * (at - low as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splitmix_gives_its_published_first_value() {
        assert_eq!(
            SplitMix64::new(1_234_567).next_u64(),
            6_457_827_717_110_365_317
        );
    }

    #[test]
    fn the_same_seed_gives_the_same_interval_and_it_covers_the_mean() {
        let x: Vec<f64> = (0..200).map(|i| f64::from(i % 7)).collect();
        let mean =
            |c: &[u32]| Some(x.iter().zip(c).map(|(v, c)| v * f64::from(*c)).sum::<f64>() / 200.0);
        let one = Bootstrap::default().interval(200, mean).unwrap().unwrap();
        let two = Bootstrap::default().interval(200, mean).unwrap().unwrap();
        assert_eq!(one, two);
        // Normal theory: the mean's standard error is 2/sqrt(200) = 0.141.
        let truth = x.iter().sum::<f64>() / 200.0;
        assert!(
            (one.low - (truth - 1.96 * 0.141)).abs() < 0.05
                && (one.high - (truth + 1.96 * 0.141)).abs() < 0.05
        );
    }

    #[test]
    fn a_statistic_that_is_rarely_defined_has_no_interval() {
        assert_eq!(Bootstrap::default().interval(5, |_| None).unwrap(), None);
        assert!(
            Bootstrap {
                level: 1.0,
                ..Bootstrap::default()
            }
            .interval(5, |_| None)
            .is_err()
        );
    }

    #[test]
    fn quantiles_interpolate() {
        assert_eq!(quantile(&[1.0, 2.0, 4.0], 0.75), 3.0);
        assert_eq!(quantile(&[1.0], 0.3), 1.0);
    }
}
