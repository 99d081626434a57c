//! From one row a token to one block a head and back, rotary positions included, as one pass over memory.

use super::operation::{Input, Operation, Values, apply, in_order, numbers, values};
use super::passes::in_parts;
use burn::tensor::Tensor;
use std::sync::Arc;

/// cos and sin of rotary positions, d/2 numbers each a token.
#[derive(Clone, Debug)]
pub(in crate::model) struct Turns {
    /// T where all rows of a batch have the same positions, else B·T.
    pub(in crate::model) tokens: usize,
    pub(in crate::model) cos: Arc<[f32]>,
    pub(in crate::model) sin: Arc<[f32]>,
}

/// `x [B, T, heads, d]`, turned by its positions where there are `turns`, as `[B, groups, heads/groups·T, d]`: the queries of
/// the heads that share a key lie under each other. On the processor.
pub(in crate::model) fn by_head(x: Tensor<4>, groups: usize, turns: Option<&Turns>) -> Tensor<4> {
    let [b, t, heads, d] = x.dims();
    let layout = Layout {
        b,
        t,
        heads,
        d,
        groups,
    };
    let turns = turns.cloned();
    apply(ByHead { layout, turns }, [Input::of(x)])
}

/// The way back: `x [B, groups, heads/groups·T, d]` as `[B·T, heads·d]`.
pub(in crate::model) fn by_token(x: Tensor<4>, heads: usize) -> Tensor<2> {
    let [b, groups, rows, d] = x.dims();
    let layout = Layout {
        b,
        t: rows * groups / heads.max(1),
        heads,
        d,
        groups,
    };
    apply(ByToken { layout }, [Input::of(x)])
}

#[derive(Clone, Copy, Debug)]
struct Layout {
    b: usize,
    t: usize,
    heads: usize,
    d: usize,
    groups: usize,
}

impl Layout {
    /// Blocks of heads from rows of tokens.
    fn to_heads(self, x: &Values, turns: Option<&Turns>) -> Values {
        let Self {
            b,
            t,
            heads,
            d,
            groups,
        } = self;
        let x = numbers(x);
        let mut out = vec![0.0f32; x.len()];
        let parts = out.chunks_mut((t * d).max(1)).enumerate().collect();
        in_parts(parts, |(block, out): (usize, &mut [f32])| {
            let (row, head) = (block / heads, block % heads);
            for (i, to) in out.chunks_mut(d).enumerate() {
                let token = row * t + i;
                let from = &x[(token * heads + head) * d..][..d];
                match turns {
                    Some(turns) => turn(from, to, turns.of(token, d), 1.0),
                    None => to.copy_from_slice(from),
                }
            }
        });
        values(out, &[b, groups, heads / groups.max(1) * t, d])
    }

    /// Rows of tokens from blocks of heads, turned back where they had been turned.
    fn to_tokens(self, x: &Values, turns: Option<&Turns>) -> Vec<f32> {
        let Self { t, heads, d, .. } = self;
        let x = numbers(x);
        let mut out = vec![0.0f32; x.len()];
        // As many tokens at a time as there are in a row of the batch.
        let parts = out.chunks_mut((t * heads * d).max(1)).enumerate().collect();
        in_parts(parts, |(row, out): (usize, &mut [f32])| {
            for (i, token) in out.chunks_mut(heads * d).enumerate() {
                for (head, to) in token.chunks_mut(d).enumerate() {
                    let from = &x[((row * heads + head) * t + i) * d..][..d];
                    match turns {
                        Some(turns) => turn(from, to, turns.of(row * t + i, d), -1.0),
                        None => to.copy_from_slice(from),
                    }
                }
            }
        });
        out
    }
}

impl Turns {
    /// The tables of a token of the batch.
    #[inline(always)]
    fn of(&self, token: usize, d: usize) -> (&[f32], &[f32]) {
        let at = token % self.tokens.max(1) * (d / 2);
        (&self.cos[at..at + d / 2], &self.sin[at..at + d / 2])
    }
}

/// (u, v) to (u·cos - v·sin, v·cos + u·sin), u and v the halves of a head; by the opposite angle with `sign` -1.
#[inline(always)]
fn turn(from: &[f32], to: &mut [f32], (cos, sin): (&[f32], &[f32]), sign: f32) {
    let half = from.len() / 2;
    let (u, v) = from.split_at(half);
    let (to_u, to_v) = to.split_at_mut(half);
    for i in 0..half {
        let (c, s) = (cos[i], sign * sin[i]);
        to_u[i] = u[i] * c - v[i] * s;
        to_v[i] = v[i] * c + u[i] * s;
    }
}

#[derive(Clone, Debug)]
struct ByHead {
    layout: Layout,
    turns: Option<Turns>,
}

impl Operation<1> for ByHead {
    type Kept = ();

    fn forward(&self, [x]: [Values; 1], keep: bool) -> (Values, Option<()>) {
        let y = self.layout.to_heads(&in_order(x), self.turns.as_ref());
        (y, keep.then_some(()))
    }

    /// A turn is orthogonal: its gradient turns back.
    fn backward(&self, (): (), wanted: [bool; 1], gradient: Values) -> [Option<Values>; 1] {
        let Layout { b, t, heads, d, .. } = self.layout;
        let back = || {
            self.layout
                .to_tokens(&in_order(gradient), self.turns.as_ref())
        };
        [wanted[0].then(|| values(back(), &[b, t, heads, d]))]
    }
}

#[derive(Clone, Debug)]
struct ByToken {
    layout: Layout,
}

impl Operation<1> for ByToken {
    type Kept = ();

    fn forward(&self, [x]: [Values; 1], keep: bool) -> (Values, Option<()>) {
        let Layout { b, t, heads, d, .. } = self.layout;
        let y = self.layout.to_tokens(&in_order(x), None);
        (values(y, &[b * t, heads * d]), keep.then_some(()))
    }

    fn backward(&self, (): (), wanted: [bool; 1], gradient: Values) -> [Option<Values>; 1] {
        [wanted[0].then(|| self.layout.to_heads(&in_order(gradient), None))]
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Graph, close, wavy};
    use super::*;

    #[test]
    fn blocks_and_rows_are_those_of_burns_operations() {
        let (b, t, heads, groups, d) = (2, 5, 6, 3, 4);
        let x = wavy([b, t, heads, d], 0.37);
        for recorded in [true, false] {
            let run = |f: &dyn Fn(Tensor<4>) -> Tensor<4>| {
                let x = Graph::of(x.clone(), recorded);
                let y = f(x.0.clone());
                let gradients = Graph::backward(&y);
                [Graph(y).numbers(), x.gradient(&gradients)]
            };
            let plain = |x: Tensor<4>| {
                x.reshape([b, t, groups, heads / groups, d])
                    .permute([0, 2, 3, 1, 4])
                    .reshape([b, groups, heads / groups * t, d])
            };
            let ours = run(&|x| by_head(x, groups, None));
            close(&ours, &run(&plain), 0.0);
            // And back.
            let ours = run(&|x| by_token(plain(x), heads).reshape([b, t, heads, d]) * 2.0);
            close(&ours, &run(&|x| x * 2.0), 0.0);
        }
    }
}
