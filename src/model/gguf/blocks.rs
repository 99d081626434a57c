//! The tensor types of GGUF that are read, and how a row of each becomes f32.

use super::super::ModelError;
use half::{bf16, f16};

/// A tensor type; quantised ones hold 32 weights a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BlockType {
    F32,
    F16,
    Bf16,
    /// f16 d, 32 i8: w = d q.
    Q8_0,
    /// f16 d, 16 bytes of two nibbles: w = d (q - 8).
    Q4_0,
    /// f16 d, f16 m, 16 bytes of two nibbles: w = d q + m.
    Q4_1,
}

impl BlockType {
    pub(crate) fn from_id(id: u32, tensor: &str) -> Result<Self, ModelError> {
        let known = [
            "F32", "F16", "Q4_0", "Q4_1", "Q4_2", "Q4_3", "Q5_0", "Q5_1", "Q8_0", "Q8_1", "Q2_K",
            "Q3_K", "Q4_K", "Q5_K", "Q6_K", "Q8_K", "IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ1_S",
            "IQ4_NL", "IQ3_S", "IQ2_S", "IQ4_XS", "I8", "I16", "I32", "I64", "F64", "IQ1_M",
            "BF16",
        ];
        match id {
            0 => Ok(Self::F32),
            1 => Ok(Self::F16),
            2 => Ok(Self::Q4_0),
            3 => Ok(Self::Q4_1),
            8 => Ok(Self::Q8_0),
            30 => Ok(Self::Bf16),
            _ => Err(ModelError::Unsupported {
                what: "GGUF tensor type",
                value: format!(
                    "{} ({id}) of `{tensor}`",
                    known.get(id as usize).unwrap_or(&"unknown")
                ),
                supported: "F32, F16, BF16, Q8_0, Q4_0, Q4_1",
            }),
        }
    }

    /// Weights and bytes of a block.
    fn block(self) -> (u64, u64) {
        match self {
            Self::F32 => (1, 4),
            Self::F16 | Self::Bf16 => (1, 2),
            Self::Q8_0 => (32, 34),
            Self::Q4_0 => (32, 18),
            Self::Q4_1 => (32, 20),
        }
    }

    /// Bytes of a tensor with rows of `cols`; none when rows are no whole number of blocks.
    pub(crate) fn size(self, elements: u64, cols: u64) -> Option<u64> {
        let (weights, bytes) = self.block();
        if !cols.is_multiple_of(weights) {
            return None;
        }
        (elements / weights).checked_mul(bytes)
    }

    /// Writes row `row` of a tensor with rows of `out.len()` weights.
    pub(crate) fn read_row(self, bytes: &[u8], row: usize, out: &mut [f32]) {
        let (weights, size) = self.block();
        let (weights, size) = (weights as usize, size as usize);
        let row_bytes = out.len() / weights * size;
        // Sizes were checked when the file was parsed; a short slice would leave zeros, never panic.
        let row = bytes.get(row * row_bytes..).unwrap_or(&[]);
        for (block, w) in row.chunks_exact(size).zip(out.chunks_exact_mut(weights)) {
            self.read_block(block, w);
        }
    }

    fn read_block(self, block: &[u8], w: &mut [f32]) {
        let scale = |at: usize| f16::from_le_bytes([block[at], block[at + 1]]).to_f32();
        match self {
            Self::F32 => w[0] = f32::from_le_bytes([block[0], block[1], block[2], block[3]]),
            Self::F16 => w[0] = scale(0),
            Self::Bf16 => w[0] = bf16::from_le_bytes([block[0], block[1]]).to_f32(),
            Self::Q8_0 => {
                let d = scale(0);
                for (w, q) in w.iter_mut().zip(&block[2..]) {
                    *w = d * f32::from(*q as i8);
                }
            }
            Self::Q4_0 | Self::Q4_1 => {
                let (d, m, nibbles) = match self {
                    Self::Q4_0 => (scale(0), -8.0 * scale(0), &block[2..]),
                    _ => (scale(0), scale(2), &block[4..]),
                };
                let (low, high) = w.split_at_mut(16);
                for ((low, high), b) in low.iter_mut().zip(high).zip(nibbles) {
                    *low = d * f32::from(b & 15) + m;
                    *high = d * f32::from(b >> 4) + m;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(kind: BlockType, bytes: &[u8], cols: usize) -> Vec<f32> {
        let mut out = vec![f32::NAN; cols];
        kind.read_row(bytes, 0, &mut out);
        out
    }

    #[test]
    fn every_type_is_dequantised_by_its_formula() {
        let (d, m) = (
            f16::from_f32(0.5).to_le_bytes(),
            f16::from_f32(-3.0).to_le_bytes(),
        );
        let nibbles: Vec<u8> = (0..16).map(|i| i | ((15 - i) << 4)).collect();

        let values = row(BlockType::Q4_0, &[&d[..], &nibbles].concat(), 32);
        let values_1 = row(BlockType::Q4_1, &[&d[..], &m, &nibbles].concat(), 32);
        for i in 0..16 {
            let (low, high) = (i as f32, (15 - i) as f32);
            assert_eq!(
                (values[i], values[i + 16]),
                (0.5 * (low - 8.0), 0.5 * (high - 8.0))
            );
            assert_eq!(
                (values_1[i], values_1[i + 16]),
                (0.5 * low - 3.0, 0.5 * high - 3.0)
            );
        }

        let q: Vec<i8> = (0..32i16).map(|i| (i * 8 - 128) as i8).collect();
        let bytes: Vec<u8> = d.into_iter().chain(q.iter().map(|q| *q as u8)).collect();
        let expected: Vec<f32> = q.iter().map(|q| 0.5 * f32::from(*q)).collect();
        assert_eq!(row(BlockType::Q8_0, &bytes, 32), expected);

        assert_eq!(row(BlockType::F32, &1.25f32.to_le_bytes(), 1), [1.25]);
        assert_eq!(row(BlockType::F16, &d, 1), [0.5]);
        assert_eq!(
            row(BlockType::Bf16, &bf16::from_f32(-2.5).to_le_bytes(), 1),
            [-2.5]
        );
    }
}
