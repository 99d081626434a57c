//! How a sequence's reward is spread over its tokens: one formula a file.
//!
//! Everything here is indexed by token position `[B, T]` and is 0 outside the answer. A credit that a trained run can be
//! read with is one file with its formula and citation, and one line in [`CREDITS`].

pub mod abc;
mod implicit;
mod own;
pub mod potential;
pub mod red;
mod table;
pub mod uniform;

pub use table::{Credit, CreditError, Needs, Sequence, by_name};

use burn::tensor::{Bool, Device, Tensor, TensorData};

/// All credits, the method's own first.
pub const CREDITS: &[Credit] = &[
    own::OWN,
    red::RED,
    abc::ABC,
    abc::ABC_D,
    implicit::IMPLICIT_DPO,
    uniform::UNIFORM,
    uniform::SPARSE,
];

/// The answer tokens of B rows, as the formulas need them.
#[derive(Clone, Debug)]
pub struct AnswerMask {
    /// 0/1 `[B, T]`: the token belongs to the answer.
    pub mask: Tensor<2>,
    /// 1 at each row's first answer token.
    pub first: Tensor<2>,
    /// 1 at each row's last answer token.
    pub last: Tensor<2>,
    /// Where `mask` is 0.
    pub outside: Tensor<2, Bool>,
    /// The mask on the host, row-major.
    answer: Vec<bool>,
}

impl AnswerMask {
    /// From one flag per token, `rows` rows of equal length, row-major; `rows` at least 1. A row may have no answer token.
    pub fn new(answer: &[bool], rows: usize, device: &Device) -> Self {
        let rows = rows.max(1);
        let tokens = answer.len() / rows;
        let shape = [rows, tokens];
        let mut first = vec![0f32; rows * tokens];
        let mut last = first.clone();
        for (b, row) in answer.chunks(tokens.max(1)).enumerate() {
            if let Some(i) = row.iter().position(|a| *a) {
                first[b * tokens + i] = 1.0;
            }
            if let Some(i) = row.iter().rposition(|a| *a) {
                last[b * tokens + i] = 1.0;
            }
        }
        let numbers = |v: Vec<f32>| Tensor::<2>::from_data(TensorData::new(v, shape), device);
        let outside: Vec<bool> = answer.iter().map(|a| !a).collect();
        Self {
            mask: numbers(answer.iter().map(|a| f32::from(u8::from(*a))).collect()),
            first: numbers(first),
            last: numbers(last),
            outside: Tensor::from_data(TensorData::new(outside, shape), device),
            answer: answer.to_vec(),
        }
    }

    /// `[B, T]` with 0 outside the answer, whatever stood there.
    pub fn inside(&self, x: Tensor<2>) -> Tensor<2> {
        x.mask_fill(self.outside.clone(), 0.0)
    }
}

/// reward - coefficient (log pi - log ref) per answer token `[B, T]`: the usual penalty, with the signed log-ratio.
pub fn penalised(
    reward: Tensor<2>,
    log_policy: Tensor<2>,
    log_reference: Tensor<2>,
    mask: &AnswerMask,
    coefficient: f64,
) -> Tensor<2> {
    reward
        - mask
            .inside(log_policy - log_reference)
            .mul_scalar(coefficient)
}

/// The value one position to the left, 0 at the first: `[B, T]` to `[B, T]`.
fn previous(x: Tensor<2>) -> Tensor<2> {
    let [rows, tokens] = x.dims();
    if tokens < 2 {
        return x.zeros_like();
    }
    let zero = Tensor::zeros([rows, 1], (&x.device(), x.dtype()));
    Tensor::cat(vec![zero, x.narrow(1, 0, tokens - 1)], 1)
}
