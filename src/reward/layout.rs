//! Which tokens are steps: the host-side masks that every method shares.
//!
//! Source: the AVA data layout. A step s has the tokens `0..=s` as its state and `ids[s+1]` as its action.

/// Token ids, segments and answer flags of B rows, padded to T tokens. All arrays are `[B, T]`, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Layout {
    /// B: sequences. A pair is two rows.
    pub rows: usize,
    /// T: tokens per row, padding included.
    pub tokens: usize,
    /// Token ids; any value on padding.
    pub ids: Vec<u32>,
    /// 0 on padding, otherwise the segment of a packed row, counted from 1.
    pub segments: Vec<u32>,
    /// Whether the token belongs to an answer.
    pub response: Vec<bool>,
    /// P, when the rows are P pairs: rows `0..P` are chosen, rows `P..2P` their rejected counterparts.
    pub pairs: Option<usize>,
}

impl Layout {
    /// S: steps per row, T-1.
    pub fn steps(&self) -> usize {
        self.tokens.saturating_sub(1)
    }

    /// M `[B, S]`: whether step s counts, that is, its action is an answer token of the same segment.
    pub fn step_mask(&self) -> Vec<bool> {
        let (t, s) = (self.tokens, self.steps());
        let mut mask = Vec::with_capacity(self.rows * s);
        for b in 0..self.rows {
            for i in 0..s {
                let (here, next) = (b * t + i, b * t + i + 1);
                mask.push(
                    self.response[next]
                        && self.segments[next] > 0
                        && self.segments[here] == self.segments[next],
                );
            }
        }
        mask
    }

    /// C `[B, S]`: whether step s may look at step s+1 (M holds for both). False for the last step of every turn.
    pub fn bootstrap_mask(&self) -> Vec<bool> {
        let s = self.steps();
        let mask = self.step_mask();
        (0..mask.len())
            .map(|i| mask[i] && (i + 1) % s.max(1) != 0 && mask[i + 1])
            .collect()
    }

    /// Of each token `[B, T]` the place in its row whose score stands for the text up to it: its own in the answer, the
    /// answer's last token so far between two turns and behind the answer, its own again before the answer.
    pub fn score_places(&self) -> Vec<usize> {
        let (t, s) = (self.tokens, self.steps());
        let mask = self.step_mask();
        let mut places = Vec::with_capacity(self.rows * t);
        for b in 0..self.rows {
            let mut last = None;
            for i in 0..t {
                // The action of step i-1 is token i.
                if i > 0 && mask[b * s + i - 1] {
                    last = Some(i);
                }
                places.push(last.unwrap_or(i));
            }
        }
        places
    }

    /// For each row the largest step with M, or `None` for a row without steps.
    pub fn last_steps(&self) -> Vec<Option<usize>> {
        let s = self.steps();
        let mask = self.step_mask();
        (0..self.rows)
            .map(|b| (0..s).rev().find(|i| mask[b * s + i]))
            .collect()
    }
}
