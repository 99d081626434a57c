//! Kendall's tau-b of tokens that count several times each, as a resample of rows draws them.
//!
//! ```text
//! tau-b = (agreeing - disagreeing pairs) / sqrt(pairs that differ in x * pairs that differ in y)
//! ```
//!
//! The tokens are put in order once; a resample then goes through them with a Fenwick tree over the values of y
//! (P. Fenwick 1994), in N log V for N tokens and V values. [`kendall_tau_b`](crate::eval::kendall_tau_b) is the plain form.

/// Tokens with two numbers each, in the order of the first.
pub(super) struct Kendall {
    /// Of each token its row, and the rank of its y among all values of y.
    tokens: Vec<(usize, usize)>,
    /// Where each run of equal x ends.
    ends: Vec<usize>,
    /// Values of y.
    values: usize,
}

impl Kendall {
    /// Of `[N]` numbers each, token `i` in row `rows[i]`. It is cheapest where y has few values.
    pub fn new(x: &[f64], y: &[f64], rows: &[usize]) -> Self {
        // Adding 0 turns -0.0 into 0.0, so that total_cmp agrees with ==.
        let mut order: Vec<usize> = (0..x.len()).collect();
        order.sort_by(|a, b| (x[*a] + 0.0).total_cmp(&(x[*b] + 0.0)));
        let mut values: Vec<f64> = y.iter().map(|y| y + 0.0).collect();
        values.sort_by(f64::total_cmp);
        values.dedup();
        let rank = |y: f64| values.partition_point(|value| *value < y);
        let last = |at: usize| at == order.len() || x[order[at]] != x[order[at - 1]];
        Self {
            tokens: order.iter().map(|i| (rows[*i], rank(y[*i]))).collect(),
            ends: (1..=order.len()).filter(|at| last(*at)).collect(),
            values: values.len(),
        }
    }

    /// The correlation where row r counts `counts[r]` times; `None` where a side is constant.
    pub fn of(&self, counts: &[u32]) -> Option<f64> {
        // Tokens of smaller x, by their y: sums of the tree's kind, and one by one.
        let mut tree = vec![0i64; self.values + 1];
        let mut by_value = vec![0i64; self.values];
        let (mut seen, mut agreement, mut tied_x) = (0i64, 0i64, 0i64);
        let mut start = 0;
        for end in &self.ends {
            let run = &self.tokens[start..*end];
            // Tokens of one x are tied, and meet only those before them.
            let mut weight = 0;
            for (row, rank) in run {
                let count = i64::from(counts[*row]);
                if count > 0 {
                    let below = sum_below(&tree, *rank);
                    let above = seen - below - by_value[*rank];
                    agreement += count * (below - above);
                    weight += count;
                }
            }
            for (row, rank) in run {
                let count = i64::from(counts[*row]);
                if count > 0 {
                    add(&mut tree, *rank, count);
                    by_value[*rank] += count;
                }
            }
            start = *end;
            seen += weight;
            tied_x += weight * weight;
        }
        let tied_y: i64 = by_value.iter().map(|weight| weight * weight).sum();
        // Each pair twice.
        let (differ_x, differ_y) = (seen * seen - tied_x, seen * seen - tied_y);
        let scale = (differ_x as f64 * differ_y as f64).sqrt();
        (scale > 0.0).then(|| (2.0 * agreement as f64 / scale).clamp(-1.0, 1.0))
    }
}

/// The sum over all ranks below `rank`.
fn sum_below(tree: &[i64], rank: usize) -> i64 {
    let (mut at, mut sum) = (rank, 0);
    while at > 0 {
        sum += tree[at];
        at &= at - 1;
    }
    sum
}

fn add(tree: &mut [i64], rank: usize, count: i64) {
    let mut at = rank + 1;
    while at < tree.len() {
        tree[at] += count;
        at += at & at.wrapping_neg();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::kendall_tau_b;
    use crate::eval::resample::SplitMix64;

    #[test]
    fn a_token_that_counts_twice_is_two_tokens() {
        let mut random = SplitMix64::new(5);
        let (mut defined, mut undefined) = (0, 0);
        for round in 0..200 {
            let (tokens, rows) = (1 + random.below(40), 1 + random.below(8));
            let row_of: Vec<usize> = (0..tokens).map(|i| i % rows).collect();
            let mut numbers = |values: usize| -> Vec<f64> {
                (0..tokens)
                    .map(|_| random.below(values) as f64 - 2.0)
                    .collect()
            };
            let (x, y) = (numbers(1 + round % 9), numbers(1 + round % 5));
            let counts: Vec<u32> = (0..rows).map(|_| random.below(4) as u32).collect();
            let (mut many_x, mut many_y) = (Vec::new(), Vec::new());
            for i in 0..tokens {
                for _ in 0..counts[row_of[i]] {
                    many_x.push(x[i]);
                    many_y.push(y[i]);
                }
            }
            let plain = kendall_tau_b(&many_x, &many_y).ok();
            let plain = plain.and_then(|metric| metric.value);
            match (Kendall::new(&x, &y, &row_of).of(&counts), plain) {
                (Some(got), Some(plain)) => {
                    assert!((got - plain).abs() < 1e-12, "{got} {plain}");
                    defined += 1;
                }
                (got, plain) => {
                    assert_eq!(got, plain);
                    undefined += 1;
                }
            }
        }
        assert!(defined > 80 && undefined > 10, "{defined} {undefined}");
    }

    #[test]
    fn zero_and_minus_zero_are_one_number() {
        let of = |x: &[f64], y: &[f64]| Kendall::new(x, y, &[0, 1, 2]).of(&[1, 1, 1]);
        let (x, y) = ([0.0, -0.0, 1.0], [-0.0, 0.0, 1.0]);
        assert_eq!(of(&x, &y), kendall_tau_b(&x, &y).unwrap().value);
        assert_eq!(of(&x, &y), Some(1.0));
    }
}
