//! The order in which rows are drawn, fixed by a seed and part of every checkpoint.

use crate::random::Rng;

/// The order in which rows are drawn: epochs of shuffled batches. Its state is part of a checkpoint, so that a resumed
/// run draws what an unbroken one would have drawn.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Sampler {
    rng: Rng,
    /// Batches of the current epoch, each a list of row numbers.
    batches: Vec<Vec<usize>>,
    next: usize,
    /// Epochs begun.
    epoch: usize,
    batch_size: usize,
    group_by_length: bool,
    /// Where rows are of two sets, each drawn by itself: how many, from the first on, are of the first set. A batch then
    /// holds `batch_size` rows of each, those of the first set in front.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    first_set: Option<usize>,
}

/// Rows of like length are gathered from windows of this many batches: enough to save most padding, and few enough
/// that the order stays close to random.
const WINDOW: usize = 16;

impl Sampler {
    /// A sampler at the start of its first epoch.
    pub fn new(seed: u64, batch_size: usize, group_by_length: bool) -> Self {
        Self {
            rng: Rng::new(seed),
            batches: Vec::new(),
            next: 0,
            epoch: 0,
            batch_size: batch_size.max(1),
            group_by_length,
            first_set: None,
        }
    }

    /// The same for rows of two sets: rows `0..first` and the rows behind them, drawn independently of each other.
    pub fn of_two_sets(self, first: usize) -> Self {
        Self {
            first_set: Some(first),
            ..self
        }
    }

    /// Whether the state, read from a file, draws from `rows` rows in batches of `batch_size`.
    pub fn fits(&self, rows: usize, batch_size: usize, group_by_length: bool) -> bool {
        let sets = match self.first_set {
            None => 1,
            Some(_) => 2,
        };
        // Rows of a batch are of one set, or half of them of each.
        let in_place = |batch: &[usize]| match self.first_set {
            None => true,
            Some(first) => {
                let (a, b) = batch.split_at(batch.len() / 2);
                a.len() == b.len() && a.iter().all(|r| *r < first) && b.iter().all(|r| *r >= first)
            }
        };
        self.batch_size == batch_size
            && self.group_by_length == group_by_length
            && self.next <= self.batches.len()
            && self.batches.iter().all(|batch| {
                !batch.is_empty()
                    && batch.len() <= sets * batch_size
                    && batch.iter().all(|row| *row < rows)
                    && in_place(batch)
            })
    }

    /// Whether both draw from the same sets.
    pub fn same_sets(&self, other: &Self) -> bool {
        self.first_set == other.first_set
    }

    /// Epochs begun so far, as a real number of passes over the rows.
    pub fn epochs(&self) -> f64 {
        if self.epoch == 0 {
            return 0.0;
        }
        (self.epoch - 1) as f64 + self.next as f64 / self.batches.len().max(1) as f64
    }

    /// The next batch's row numbers. `lengths` are the rows' lengths in tokens.
    pub fn next_batch(&mut self, lengths: &[usize]) -> Vec<usize> {
        if self.next >= self.batches.len() {
            self.begin_epoch(lengths);
        }
        let batch = self.batches.get(self.next).cloned().unwrap_or_default();
        self.next += 1;
        batch
    }

    fn begin_epoch(&mut self, lengths: &[usize]) {
        self.batches = match self.first_set {
            None => {
                let order = self.passes(0..lengths.len(), lengths.len());
                let mut batches = self.cut(order, lengths);
                self.rng.shuffle(&mut batches);
                batches
            }
            Some(first) => self.two_sets(first, lengths),
        };
        self.next = 0;
        self.epoch += 1;
    }

    /// An epoch over two sets: every row of the larger one once, and the smaller one as often as it takes. Which rows of the
    /// one meet which of the other is left to chance alone, also where batches are of like length.
    fn two_sets(&mut self, first: usize, lengths: &[usize]) -> Vec<Vec<usize>> {
        let first = first.min(lengths.len());
        let longest = first.max(lengths.len() - first);
        let [good, bad] = [0..first, first..lengths.len()].map(|set| {
            let order = self.passes(set, longest);
            let mut batches = self.cut(order, lengths);
            // Only whole batches change places, so that both sets' short ones stay beside each other.
            let short = batches.pop_if(|batch| batch.len() < self.batch_size);
            self.rng.shuffle(&mut batches);
            batches.extend(short);
            // Rows of a batch stand in the order of their lengths.
            batches.iter_mut().for_each(|batch| self.rng.shuffle(batch));
            batches
        });
        let both = good.into_iter().zip(bad);
        let mut batches: Vec<Vec<usize>> = both.map(|(a, b)| [a, b].concat()).collect();
        self.rng.shuffle(&mut batches);
        batches
    }

    /// `count` rows of a set, in as many shuffled passes over it as it takes.
    fn passes(&mut self, set: std::ops::Range<usize>, count: usize) -> Vec<usize> {
        let mut order = Vec::with_capacity(count);
        while order.len() < count && !set.is_empty() {
            let mut pass: Vec<usize> = set.clone().collect();
            self.rng.shuffle(&mut pass);
            order.extend(pass);
        }
        order.truncate(count);
        order
    }

    /// Rows in batches, sorted by length within windows where that is asked for.
    fn cut(&self, mut order: Vec<usize>, lengths: &[usize]) -> Vec<Vec<usize>> {
        if self.group_by_length {
            for window in order.chunks_mut(WINDOW * self.batch_size) {
                window.sort_by_key(|row| lengths[*row]);
            }
        }
        let batches = order.chunks(self.batch_size).map(<[usize]>::to_vec);
        batches.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_epoch_draws_every_row_once() {
        let lengths: Vec<usize> = (0..103).map(|i| i % 17).collect();
        let mut sampler = Sampler::new(3, 8, true);
        for _ in 0..2 {
            let mut seen: Vec<usize> = (0..13).flat_map(|_| sampler.next_batch(&lengths)).collect();
            seen.sort_unstable();
            assert_eq!(seen, (0..103).collect::<Vec<_>>());
        }
    }

    #[test]
    fn two_sets_of_different_sizes_are_drawn_independently() {
        // 5 rows of the one, 23 of the other.
        let lengths: Vec<usize> = (0..28).map(|i| i % 7).collect();
        let mut sampler = Sampler::new(4, 4, true).of_two_sets(5);
        let mut partners = std::collections::BTreeSet::new();
        let mut meetings = 0;
        for _ in 0..3 {
            let mut large = Vec::new();
            let mut small = [0usize; 5];
            for _ in 0..6 {
                let batch = sampler.next_batch(&lengths);
                let (good, bad) = batch.split_at(batch.len() / 2);
                assert!(good.len() == bad.len() && good.len() <= 4);
                assert!(good.iter().all(|r| *r < 5) && bad.iter().all(|r| *r >= 5));
                good.iter().for_each(|r| small[*r] += 1);
                large.extend_from_slice(bad);
                partners.extend(good.iter().copied().zip(bad.iter().copied()));
                meetings += good.len();
            }
            large.sort_unstable();
            assert_eq!(large, (5..28).collect::<Vec<_>>());
            // 23 draws in passes over 5 rows: each four or five times.
            assert!(small.iter().all(|n| (4..=5).contains(n)), "{small:?}");
        }
        // Nobody has a fixed partner: few of the meetings repeat.
        assert!(partners.len() * 2 > meetings, "{}", partners.len());
        let again: Sampler =
            serde_json::from_str(&serde_json::to_string(&sampler).unwrap()).unwrap();
        assert!(again.fits(28, 4, true) && again.same_sets(&sampler));
        let other = Sampler {
            first_set: Some(6),
            ..again
        };
        assert!(!other.fits(28, 4, true) && !other.same_sets(&sampler));
        // A set without rows gives no batches, and no endless search for some.
        let mut without = Sampler::new(4, 4, false).of_two_sets(0);
        without.begin_epoch(&[1, 2]);
        assert!(without.batches.is_empty());
    }

    #[test]
    fn a_sampler_that_points_outside_the_rows_is_told() {
        let lengths = [3usize; 10];
        let mut sampler = Sampler::new(1, 4, false);
        sampler.next_batch(&lengths);
        assert!(sampler.fits(10, 4, false));
        assert!(!sampler.fits(9, 4, false));
        assert!(!sampler.fits(10, 8, false));
        assert!(!sampler.fits(10, 4, true));
    }

    #[test]
    fn a_sampler_read_back_from_json_goes_on_as_if_never_stopped() {
        let lengths: Vec<usize> = (0..50).collect();
        let mut sampler = Sampler::new(9, 4, true);
        for _ in 0..7 {
            sampler.next_batch(&lengths);
        }
        let mut resumed: Sampler =
            serde_json::from_str(&serde_json::to_string(&sampler).unwrap()).unwrap();
        for _ in 0..30 {
            assert_eq!(sampler.next_batch(&lengths), resumed.next_batch(&lengths));
        }
    }
}
