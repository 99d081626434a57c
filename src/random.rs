//! The project's one source of randomness: small, fast, the same on every machine, and storable.
//!
//! xoshiro256++ 1.0 seeded by SplitMix64: D. Blackman, S. Vigna, *Scrambled linear pseudorandom number generators*,
//! ACM Transactions on Mathematical Software 47 (2021), arXiv 1805.01407. Not for cryptography.

use serde::{Deserialize, Serialize};

/// A deterministic random number generator (xoshiro256++).
///
/// Its JSON form is one string of 64 hexadecimal digits, because a page's numbers cannot hold 64 bits. A generator read
/// back from it goes on exactly where the stored one stood.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Rng {
    state: [u64; 4],
}

/// A stored generator state could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RngStateError {
    /// Not 64 hexadecimal digits.
    #[error(
        "a generator state is 64 hexadecimal digits, got {length} characters that are not; use a stored state"
    )]
    Form {
        /// Characters found.
        length: usize,
    },
    /// The one state from which the generator never leaves.
    #[error(
        "a generator state of zeros only can give nothing but zeros; seed a new generator instead"
    )]
    Zero,
}

/// One step of SplitMix64: advances `state` and returns 64 well-mixed bits.
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Rng {
    /// The generator of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut mixer = seed;
        Self {
            state: std::array::from_fn(|_| split_mix(&mut mixer)),
        }
    }

    /// Generator number `stream` of a seed. Streams of one seed are unrelated, so that row 7 of a data set is the same
    /// however many rows are asked for, and a worker's numbers do not depend on the other workers.
    #[must_use]
    pub fn stream(seed: u64, stream: u64) -> Self {
        let mut mixer = seed;
        let mut second = split_mix(&mut mixer) ^ stream;
        // The stream is mixed before it becomes a seed: neighbouring streams would otherwise share SplitMix64 outputs.
        Self::new(split_mix(&mut second) ^ split_mix(&mut mixer))
    }

    /// The next 64 bits, uniform.
    pub fn next_u64(&mut self) -> u64 {
        let s = &mut self.state;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// Uniform in `[0, 1)`, a multiple of 2^-53.
    pub fn uniform(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Uniform in `[low, high)`.
    pub fn range(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.uniform()
    }

    /// Uniform in `0..n`, without bias (D. Lemire, *Fast random integer generation in an interval*, 2019). `n = 0` gives 0.
    pub fn below(&mut self, n: usize) -> usize {
        let n = n as u64;
        if n == 0 {
            return 0;
        }
        let mut product = u128::from(self.next_u64()) * u128::from(n);
        if (product as u64) < n {
            let threshold = n.wrapping_neg() % n;
            while (product as u64) < threshold {
                product = u128::from(self.next_u64()) * u128::from(n);
            }
        }
        (product >> 64) as usize
    }

    /// True with probability `p`; never for `p <= 0` or NaN, always for `p >= 1`.
    pub fn chance(&mut self, p: f64) -> bool {
        self.uniform() < p
    }

    /// Standard normal (Box-Muller; always two draws, so that the state after it does not depend on the value).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// Shuffles in place, every order equally likely (Fisher-Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }

    /// An index drawn in proportion to `weights`. Weights that are not finite and positive count as 0; `None` when
    /// nothing is left. One draw.
    pub fn weighted(&mut self, weights: &[f64]) -> Option<usize> {
        let usable = |w: f64| if w.is_finite() && w > 0.0 { w } else { 0.0 };
        let total: f64 = weights.iter().map(|&w| usable(w)).sum();
        let mut left = self.uniform() * total;
        let mut last = None;
        for (i, &w) in weights.iter().enumerate() {
            let w = usable(w);
            if w > 0.0 {
                last = Some(i);
                if left < w {
                    return last;
                }
                left -= w;
            }
        }
        // Rounding in the sum can leave a sliver after the last weight.
        last
    }
}

impl From<Rng> for String {
    fn from(rng: Rng) -> Self {
        rng.state
            .iter()
            .map(|word| format!("{word:016x}"))
            .collect()
    }
}

impl TryFrom<String> for Rng {
    type Error = RngStateError;

    fn try_from(text: String) -> Result<Self, RngStateError> {
        let form = RngStateError::Form {
            length: text.chars().count(),
        };
        if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(form);
        }
        let mut state = [0u64; 4];
        for (i, word) in state.iter_mut().enumerate() {
            let digits = text.get(16 * i..16 * (i + 1)).ok_or_else(|| form.clone())?;
            *word = u64::from_str_radix(digits, 16).map_err(|_| form.clone())?;
        }
        if state == [0; 4] {
            return Err(RngStateError::Zero);
        }
        Ok(Self { state })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bits_are_those_of_the_reference_code() {
        // First outputs of the authors' xoshiro256plusplus.c from the state 1, 2, 3, 4.
        let mut rng = Rng {
            state: [1, 2, 3, 4],
        };
        let expected = [
            41_943_041,
            58_720_359,
            3_588_806_011_781_223,
            3_591_011_842_654_386,
            9_228_616_714_210_784_205,
            9_973_669_472_204_895_162,
            14_011_001_112_246_962_877,
        ];
        for value in expected {
            assert_eq!(rng.next_u64(), value);
        }
        // First outputs of splitmix64.c from 1234567.
        let mut state = 1_234_567;
        for value in [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
        ] {
            assert_eq!(split_mix(&mut state), value);
        }
    }

    #[test]
    fn a_stored_generator_goes_on_where_it_stood() {
        let mut rng = Rng::new(5);
        rng.normal();
        let text = serde_json::to_string(&rng).unwrap();
        let mut back: Rng = serde_json::from_str(&text).unwrap();
        let first: Vec<u64> = (0..50).map(|_| rng.next_u64()).collect();
        let second: Vec<u64> = (0..50).map(|_| back.next_u64()).collect();
        assert_eq!(first, second);
    }

    #[test]
    fn damaged_states_are_refused_in_words() {
        for (text, found) in [
            ("\"12\"".to_owned(), "64 hexadecimal"),
            (format!("\"{}\"", "é".repeat(32)), "64 hexadecimal"),
            (format!("\"{}\"", "0".repeat(64)), "zeros only"),
        ] {
            let error = serde_json::from_str::<Rng>(&text).unwrap_err().to_string();
            assert!(error.contains(found), "{error}");
        }
    }

    #[test]
    fn uniform_normal_and_below_have_their_moments() {
        let (mut rng, n) = (Rng::new(1), 200_000);
        let (mut u, mut z, mut z2, mut counts) = (0.0, 0.0, 0.0, [0usize; 7]);
        for _ in 0..n {
            let x = rng.uniform();
            assert!((0.0..1.0).contains(&x));
            u += x;
            let x = rng.normal();
            z += x;
            z2 += x * x;
            counts[rng.below(7)] += 1;
        }
        let n = f64::from(n);
        // Five standard errors each.
        assert!((u / n - 0.5).abs() < 5.0 * (1.0 / 12.0 / n).sqrt());
        assert!((z / n).abs() < 5.0 / n.sqrt());
        assert!((z2 / n - 1.0).abs() < 5.0 * (2.0 / n).sqrt());
        let p: f64 = 1.0 / 7.0;
        for c in counts {
            assert!((c as f64 / n - p).abs() < 5.0 * (p * (1.0 - p) / n).sqrt());
        }
        assert_eq!(rng.below(0), 0);
    }

    #[test]
    fn weights_that_are_no_weights_are_never_drawn() {
        let mut rng = Rng::new(2);
        let mut counts = [0usize; 5];
        for _ in 0..20_000 {
            counts[rng
                .weighted(&[1.0, f64::NAN, 3.0, -2.0, f64::INFINITY])
                .unwrap()] += 1;
        }
        assert_eq!((counts[1], counts[3], counts[4]), (0, 0, 0));
        assert!((counts[2] as f64 / 20_000.0 - 0.75).abs() < 0.02);
        assert_eq!(rng.weighted(&[]), None);
        assert_eq!(rng.weighted(&[0.0, f64::NAN]), None);
    }

    #[test]
    fn shuffling_reaches_all_orders_equally_often() {
        let mut rng = Rng::new(3);
        let mut counts = std::collections::BTreeMap::new();
        for _ in 0..24_000 {
            let mut items = [0, 1, 2, 3];
            rng.shuffle(&mut items);
            *counts.entry(items).or_insert(0usize) += 1;
        }
        assert_eq!(counts.len(), 24);
        assert!(
            counts.values().all(|&c| (840..1160).contains(&c)),
            "{counts:?}"
        );
    }

    #[test]
    fn streams_of_a_seed_differ_and_neighbouring_seeds_share_no_stream() {
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..40 {
            for stream in 0..40 {
                assert!(seen.insert(Rng::stream(seed, stream).next_u64()));
            }
        }
    }
}
