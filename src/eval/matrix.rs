//! Small dense matrices in f64 and Cholesky's factorisation: all that Laplace needs.

use super::{EvalError, check_values};

/// Dense matrix, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Matrix {
    rows: usize,
    cols: usize,
    data: Vec<f64>,
}

impl Matrix {
    /// `data` row by row, `[rows, cols]`.
    ///
    /// # Errors
    /// Another number of values than rows x cols, or a value that is not finite.
    pub fn new(rows: usize, cols: usize, data: Vec<f64>) -> Result<Self, EvalError> {
        if rows.checked_mul(cols) != Some(data.len()) {
            let (first_len, second_len) = (rows.saturating_mul(cols), data.len());
            return Err(EvalError::Lengths {
                first: "rows x cols",
                first_len,
                second: "data",
                second_len,
            });
        }
        if let Some(index) = data.iter().position(|v| !v.is_finite()) {
            return Err(EvalError::NotFinite {
                what: "matrix",
                index,
                value: data[index],
            });
        }
        Ok(Self { rows, cols, data })
    }

    /// From rows of equal length.
    ///
    /// # Errors
    /// No rows, rows of unequal length, a value that is not finite.
    pub fn from_rows(rows: &[Vec<f64>]) -> Result<Self, EvalError> {
        let Some(first) = rows.first() else {
            return Err(EvalError::Empty {
                what: "matrix rows",
            });
        };
        for row in rows {
            super::check_lengths("first row", first, "another row", row)?;
            check_values("matrix row", row)?;
        }
        Self::new(rows.len(), first.len(), rows.concat())
    }

    pub(crate) fn zeros(rows: usize, cols: usize) -> Self {
        Self {
            rows,
            cols,
            data: vec![0.0; rows * cols],
        }
    }

    /// Rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// One row; empty outside the matrix.
    pub fn row(&self, i: usize) -> &[f64] {
        let start = i.saturating_mul(self.cols);
        self.data
            .get(start..start.saturating_add(self.cols))
            .unwrap_or(&[])
    }

    /// All values, row by row.
    pub fn values(&self) -> &[f64] {
        &self.data
    }

    pub(crate) fn at(&mut self, i: usize, j: usize) -> &mut f64 {
        &mut self.data[i * self.cols + j]
    }

    pub(crate) fn transposed(&self) -> Self {
        let mut out = Self::zeros(self.cols, self.rows);
        for i in 0..self.rows {
            for (j, v) in self.row(i).iter().enumerate() {
                *out.at(j, i) = *v;
            }
        }
        out
    }

    /// Matrix product.
    ///
    /// # Errors
    /// Inner sizes differ.
    pub fn times(&self, other: &Self) -> Result<Self, EvalError> {
        if self.cols != other.rows {
            return Err(EvalError::Lengths {
                first: "columns of the left matrix",
                first_len: self.cols,
                second: "rows of the right matrix",
                second_len: other.rows,
            });
        }
        let mut out = Self::zeros(self.rows, other.cols);
        for i in 0..self.rows {
            for (k, a) in self.row(i).iter().enumerate() {
                let target = &mut out.data[i * other.cols..(i + 1) * other.cols];
                target
                    .iter_mut()
                    .zip(other.row(k))
                    .for_each(|(t, b)| *t += a * b);
            }
        }
        Ok(out)
    }

    /// self + factor other, of equal shapes.
    pub(crate) fn plus(&self, other: &Self, factor: f64) -> Self {
        let data = self.data.iter().zip(&other.data);
        Self {
            data: data.map(|(a, b)| a + factor * b).collect(),
            ..*self
        }
    }

    /// factor self.
    pub(crate) fn scaled(&self, factor: f64) -> Self {
        Self {
            data: self.data.iter().map(|a| factor * a).collect(),
            ..*self
        }
    }

    /// Kronecker product: block (i, j) is self[i, j] x other.
    pub(crate) fn kronecker(&self, other: &Self) -> Self {
        let mut out = Self::zeros(self.rows * other.rows, self.cols * other.cols);
        for i in 0..self.rows {
            for (j, a) in self.row(i).iter().enumerate() {
                for k in 0..other.rows {
                    for (l, b) in other.row(k).iter().enumerate() {
                        *out.at(i * other.rows + k, j * other.cols + l) = a * b;
                    }
                }
            }
        }
        out
    }
}

pub(crate) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

/// Lower-triangular factor: A = F F^T.
#[derive(Clone, Debug, PartialEq)]
pub struct Cholesky {
    factor: Matrix,
}

impl Cholesky {
    /// Factorises a symmetric positive definite matrix; reads the lower triangle.
    ///
    /// # Errors
    /// Not square, or not positive definite.
    pub fn new(what: &'static str, matrix: &Matrix) -> Result<Self, EvalError> {
        if matrix.rows != matrix.cols {
            let (first_len, second_len) = (matrix.rows, matrix.cols);
            return Err(EvalError::Lengths {
                first: "matrix rows",
                first_len,
                second: "matrix columns",
                second_len,
            });
        }
        let n = matrix.rows;
        let mut factor = Matrix::zeros(n, n);
        for i in 0..n {
            for j in 0..=i {
                let rest = matrix.row(i)[j] - dot(&factor.row(i)[..j], &factor.row(j)[..j]);
                let value = if i == j {
                    if rest.is_nan() || rest <= 0.0 {
                        return Err(EvalError::NotPositiveDefinite {
                            what,
                            pivot: i,
                            value: rest,
                        });
                    }
                    rest.sqrt()
                } else {
                    rest / factor.row(j)[j]
                };
                *factor.at(i, j) = value;
            }
        }
        Ok(Self { factor })
    }

    /// F.
    pub fn factor(&self) -> &Matrix {
        &self.factor
    }

    /// F^-1 b: half a solve. Its squared length is b^T A^-1 b.
    ///
    /// # Errors
    /// b has another length.
    pub fn half_solve(&self, b: &[f64]) -> Result<Vec<f64>, EvalError> {
        let n = self.factor.rows;
        if b.len() != n {
            return Err(EvalError::Lengths {
                first: "matrix rows",
                first_len: n,
                second: "vector",
                second_len: b.len(),
            });
        }
        let mut x: Vec<f64> = Vec::with_capacity(n);
        for (i, b) in b.iter().enumerate() {
            let row = self.factor.row(i);
            x.push((b - dot(&row[..i], &x)) / row[i]);
        }
        Ok(x)
    }

    /// A^-1 b.
    ///
    /// # Errors
    /// b has another length.
    pub fn solve(&self, b: &[f64]) -> Result<Vec<f64>, EvalError> {
        let mut x = self.half_solve(b)?;
        for i in (0..x.len()).rev() {
            let row = self.factor.row(i);
            x[i] /= row[i];
            let (value, above) = (x[i], &mut x[..i]);
            above.iter_mut().zip(row).for_each(|(x, f)| *x -= value * f);
        }
        Ok(x)
    }

    /// F, lower-triangular.
    pub fn into_factor(self) -> Matrix {
        self.factor
    }

    /// F^-1, lower-triangular: b^T A^-1 b is the squared length of F^-1 b.
    ///
    /// # Errors
    /// None in practice: the sizes agree by construction.
    pub fn inverse_factor(&self) -> Result<Matrix, EvalError> {
        let n = self.factor.rows;
        let mut out = Matrix::zeros(n, n);
        // Column k of F^-1 by forward substitution; it is 0 above row k.
        for k in 0..n {
            let mut column = vec![0.0; n];
            for i in k..n {
                let row = self.factor.row(i);
                let unit = if i == k { 1.0 } else { 0.0 };
                column[i] = (unit - dot(&row[k..i], &column[k..i])) / row[i];
            }
            for (i, value) in column.into_iter().enumerate() {
                *out.at(i, k) = value;
            }
        }
        Ok(out)
    }

    /// log det A.
    pub fn log_det(&self) -> f64 {
        (0..self.factor.rows)
            .map(|i| 2.0 * self.factor.row(i)[i].ln())
            .sum()
    }

    /// A^-1.
    ///
    /// # Errors
    /// None in practice: the sizes agree by construction.
    pub fn inverse(&self) -> Result<Matrix, EvalError> {
        let n = self.factor.rows;
        let mut out = Matrix::zeros(n, n);
        for i in 0..n {
            let unit: Vec<f64> = (0..n).map(|j| if i == j { 1.0 } else { 0.0 }).collect();
            for (j, v) in self.solve(&unit)?.into_iter().enumerate() {
                *out.at(i, j) = v;
            }
        }
        Ok(out)
    }
}

/// Eigenvalues, largest first, and unit eigenvectors as rows, of a symmetric matrix: Jacobi's rotations, for small matrices.
///
/// # Errors
/// Not square.
pub fn symmetric_eigen(matrix: &Matrix) -> Result<(Vec<f64>, Matrix), EvalError> {
    if matrix.rows != matrix.cols {
        return Err(EvalError::Lengths {
            first: "matrix rows",
            first_len: matrix.rows,
            second: "matrix columns",
            second_len: matrix.cols,
        });
    }
    let n = matrix.rows;
    let mut a = matrix.clone();
    let mut vectors = Matrix::zeros(n, n);
    (0..n).for_each(|i| *vectors.at(i, i) = 1.0);
    let size: f64 = a.data.iter().map(|v| v * v).sum();
    // Convergence is quadratic; ten sweeps are ample, and the bound only guards against rounding.
    for _ in 0..50 {
        let off: f64 = (0..n)
            .flat_map(|i| (0..i).map(move |j| (i, j)))
            .map(|(i, j)| a.row(i)[j].powi(2))
            .sum();
        if off <= 1e-30 * size {
            break;
        }
        for p in 0..n {
            for q in p + 1..n {
                let apq = a.row(p)[q];
                if apq == 0.0 {
                    continue;
                }
                let theta = (a.row(q)[q] - a.row(p)[p]) / (2.0 * apq);
                let t = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
                let c = 1.0 / (t * t + 1.0).sqrt();
                let s = t * c;
                for k in 0..n {
                    let (x, y) = (a.row(k)[p], a.row(k)[q]);
                    *a.at(k, p) = c * x - s * y;
                    *a.at(k, q) = s * x + c * y;
                }
                for k in 0..n {
                    let (x, y) = (a.row(p)[k], a.row(q)[k]);
                    *a.at(p, k) = c * x - s * y;
                    *a.at(q, k) = s * x + c * y;
                }
                for k in 0..n {
                    let (x, y) = (vectors.row(p)[k], vectors.row(q)[k]);
                    *vectors.at(p, k) = c * x - s * y;
                    *vectors.at(q, k) = s * x + c * y;
                }
            }
        }
    }
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|i, j| a.row(*j)[*j].total_cmp(&a.row(*i)[*i]));
    let values = order.iter().map(|i| a.row(*i)[*i]).collect();
    let data = order
        .iter()
        .flat_map(|i| vectors.row(*i).to_vec())
        .collect();
    Ok((
        values,
        Matrix {
            rows: n,
            cols: n,
            data,
        },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spd() -> Matrix {
        Matrix::from_rows(&[
            vec![4.0, 2.0, 0.5],
            vec![2.0, 5.0, 1.0],
            vec![0.5, 1.0, 3.0],
        ])
        .unwrap()
    }

    #[test]
    fn solve_inverse_and_determinant_agree() {
        let a = spd();
        let c = Cholesky::new("test", &a).unwrap();
        let x = c.solve(&[1.0, -2.0, 0.5]).unwrap();
        for (i, b) in [1.0, -2.0, 0.5].into_iter().enumerate() {
            assert!((dot(a.row(i), &x) - b).abs() < 1e-14);
        }
        let unit = a.times(&c.inverse().unwrap()).unwrap();
        for i in 0..3 {
            for j in 0..3 {
                assert!((unit.row(i)[j] - f64::from(u8::from(i == j))).abs() < 1e-14);
            }
        }
        // 4(15-1) - 2(6-.5) + .5(2-2.5)
        assert!((c.log_det() - 44.75f64.ln()).abs() < 1e-14);
        let half = c.half_solve(&[1.0, -2.0, 0.5]).unwrap();
        assert!((dot(&half, &half) - dot(&x, &[1.0, -2.0, 0.5])).abs() < 1e-14);
        let inverse = c.inverse_factor().unwrap();
        for (i, value) in half.iter().enumerate() {
            assert!((dot(inverse.row(i), &[1.0, -2.0, 0.5]) - value).abs() < 1e-14);
        }
    }

    #[test]
    fn wrong_shapes_and_indefinite_matrices_are_errors() {
        let a = Matrix::from_rows(&[vec![1.0, 2.0], vec![2.0, 1.0]]).unwrap();
        assert!(
            matches!(Cholesky::new("a", &a), Err(EvalError::NotPositiveDefinite { what: "a", pivot: 1, value }) if value == -3.0)
        );
        assert!(
            Matrix::from_rows(&[vec![1.0], vec![]]).is_err() && Matrix::from_rows(&[]).is_err()
        );
        assert!(
            Matrix::new(2, 2, vec![0.0; 3]).is_err() && Matrix::new(usize::MAX, 2, vec![]).is_err()
        );
        assert!(spd().times(&a).is_err() && Cholesky::new("r", &Matrix::zeros(1, 2)).is_err());
        assert!(Cholesky::new("s", &spd()).unwrap().solve(&[1.0]).is_err());
    }

    #[test]
    fn eigenvectors_rebuild_the_matrix_and_are_orthonormal() {
        let a = Matrix::from_rows(&[
            vec![2.0, -1.0, 0.3, 0.0],
            vec![-1.0, 2.0, 0.0, 0.5],
            vec![0.3, 0.0, 2.0, -0.7],
            vec![0.0, 0.5, -0.7, -3.0],
        ])
        .unwrap();
        let (values, v) = symmetric_eigen(&a).unwrap();
        assert!(values.windows(2).all(|w| w[0] >= w[1]));
        for i in 0..4 {
            for j in 0..4 {
                let rebuilt: f64 = (0..4).map(|k| values[k] * v.row(k)[i] * v.row(k)[j]).sum();
                assert!((rebuilt - a.row(i)[j]).abs() < 1e-12);
                let unit = if i == j { 1.0 } else { 0.0 };
                assert!((dot(v.row(i), v.row(j)) - unit).abs() < 1e-12);
            }
        }
        assert!(symmetric_eigen(&Matrix::zeros(2, 3)).is_err());
    }

    #[test]
    fn kronecker_puts_blocks() {
        let a = Matrix::from_rows(&[vec![1.0, 2.0]]).unwrap();
        let b = Matrix::from_rows(&[vec![3.0], vec![4.0]]).unwrap();
        assert_eq!(
            a.kronecker(&b),
            Matrix::from_rows(&[vec![3.0, 6.0], vec![4.0, 8.0]]).unwrap()
        );
        assert_eq!(b.transposed().row(0), [3.0, 4.0]);
    }
}
