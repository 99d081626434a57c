//! Parameters as a flat map from Hugging Face tensor names to tensors.
//!
//! **Orientation.** Files keep a linear layer's weight as `[out, in]` (PyTorch) or `[in, out]` (GPT-2's Conv1D). In
//! memory every linear weight is `[in, out]`; embeddings stay `[vocabulary, hidden]`. The reason is the optimiser, not
//! the product: Flex's matrix product takes strides and never copies a transposed weight, and both orientations take
//! the same time within noise. But the gradient `xᵀ · g` comes out contiguous as `[in, out]`; with `[out, in]` kept in
//! memory it would be a transposed view of that, and every elementwise operation of an optimiser on it would leave the
//! vectorised path (measured: one moving average over 576 x 1536 values takes 0.23 ms straight and 2.6 ms transposed).

use super::ModelError;
use burn::tensor::{Device, Tensor, TensorData};
use std::collections::BTreeMap;

/// One parameter.
#[derive(Clone, Debug)]
pub enum Weight {
    /// A bias or the gain of a norm.
    Vector(Tensor<1>),
    /// A linear weight `[in, out]` or an embedding `[vocabulary, hidden]`.
    Matrix(Tensor<2>),
}

impl Weight {
    /// Shape in memory.
    pub fn shape(&self) -> Vec<usize> {
        match self {
            Self::Vector(t) => t.dims().to_vec(),
            Self::Matrix(t) => t.dims().to_vec(),
        }
    }

    /// Number of values.
    pub fn elements(&self) -> usize {
        self.shape().iter().product()
    }

    /// Whether its gradient is kept after a backward pass.
    pub fn is_trainable(&self) -> bool {
        match self {
            Self::Vector(t) => t.is_require_grad(),
            Self::Matrix(t) => t.is_require_grad(),
        }
    }

    /// The same values without any link to autodiff.
    pub fn inner(self) -> Self {
        match self {
            Self::Vector(t) => Self::Vector(t.inner()),
            Self::Matrix(t) => Self::Matrix(t.inner()),
        }
    }

    /// The same values on another device.
    pub fn to_device(self, device: &Device) -> Self {
        match self {
            Self::Vector(t) => Self::Vector(t.to_device(device)),
            Self::Matrix(t) => Self::Matrix(t.to_device(device)),
        }
    }

    fn trainable(self, device: &Device) -> Self {
        fn leaf<const D: usize>(t: Tensor<D>, device: &Device) -> Tensor<D> {
            let t = t.inner().autodiff();
            match device.gradient_checkpointing_strategy() {
                Some(strategy) => t.with_gradient_checkpointing_strategy(strategy),
                None => t,
            }
            .require_grad()
        }
        match self {
            Self::Vector(t) => Self::Vector(leaf(t, device)),
            Self::Matrix(t) => Self::Matrix(leaf(t, device)),
        }
    }

    /// Reads the values back, row-major in the shape of [`Weight::shape`].
    ///
    /// # Errors
    /// When the device fails.
    pub async fn to_host(&self, name: &str) -> Result<Vec<f32>, ModelError> {
        let data = match self {
            Self::Vector(t) => t.clone().inner().into_data_async().await,
            Self::Matrix(t) => t.clone().inner().into_data_async().await,
        };
        let failed = |reason: String| ModelError::ReadBack {
            name: name.into(),
            reason,
        };
        data.map_err(|e| failed(e.to_string()))?
            .try_into_vec_as::<f32>()
            .map_err(|e| failed(format!("{e:?}")))
    }
}

/// All parameters of a model or an adapter, by name.
#[derive(Clone, Debug, Default)]
pub struct Weights {
    map: BTreeMap<String, Weight>,
}

impl Weights {
    /// An empty map.
    pub fn new() -> Self {
        Self::default()
    }

    /// The parameter of that name.
    pub fn get(&self, name: &str) -> Option<&Weight> {
        self.map.get(name)
    }

    /// Puts a parameter in, and returns the one it replaces.
    pub fn insert(&mut self, name: impl Into<String>, weight: Weight) -> Option<Weight> {
        self.map.insert(name.into(), weight)
    }

    /// Takes a parameter out.
    pub fn remove(&mut self, name: &str) -> Option<Weight> {
        self.map.remove(name)
    }

    /// Names and parameters in the order of names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Weight)> {
        self.map
            .iter()
            .map(|(name, weight)| (name.as_str(), weight))
    }

    /// Names in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.map.keys().map(String::as_str)
    }

    /// Number of tensors.
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Whether there is no tensor.
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// Number of values in all tensors; a tied embedding counts once.
    pub fn parameters(&self) -> usize {
        self.map.values().map(Weight::elements).sum()
    }

    /// The device of the first parameter.
    pub fn device(&self) -> Option<Device> {
        self.map.values().next().map(|w| match w {
            Weight::Vector(t) => t.device(),
            Weight::Matrix(t) => t.device(),
        })
    }

    /// All parameters on another device.
    pub fn to_device(self, device: &Device) -> Self {
        self.map_each(|_, w| w.to_device(device))
    }

    /// All parameters without autodiff: what evaluation and generation want.
    pub fn inner(self) -> Self {
        self.map_each(|_, w| w.inner())
    }

    /// Parameters whose name `is_trained` become autodiff leaves whose gradients are kept; the others lose autodiff
    /// altogether, so that no gradient is computed for them. `device` says, as `Device::autodiff()` or
    /// `Device::autodiff().gradient_checkpointing()`, how activations are kept.
    pub fn trainable(self, device: &Device, is_trained: impl Fn(&str) -> bool) -> Self {
        self.map_each(|name, w| {
            if is_trained(name) {
                w.trainable(device)
            } else {
                w.inner()
            }
        })
    }

    /// Replaces each parameter by a function of its name and itself.
    pub fn map_each(self, mut f: impl FnMut(&str, Weight) -> Weight) -> Self {
        let map = self
            .map
            .into_iter()
            .map(|(name, w)| {
                let w = f(&name, w);
                (name, w)
            })
            .collect();
        Self { map }
    }

    /// A matrix that must be there.
    ///
    /// # Panics
    /// When it is not: models are checked against their configuration when they are made.
    pub(crate) fn matrix(&self, name: &str) -> Tensor<2> {
        match self.map.get(name) {
            Some(Weight::Matrix(t)) => t.clone(),
            _ => panic!("matrix `{name}` is not in the model; use Decoder::new, which checks"),
        }
    }

    /// A vector that must be there.
    ///
    /// # Panics
    /// As [`Weights::matrix`].
    pub(crate) fn vector(&self, name: &str) -> Tensor<1> {
        match self.map.get(name) {
            Some(Weight::Vector(t)) => t.clone(),
            _ => panic!("vector `{name}` is not in the model; use Decoder::new, which checks"),
        }
    }

    /// Takes values from the host: one dimension makes a vector, two a matrix. `values` must fill `shape`.
    pub(crate) fn insert_host(
        &mut self,
        name: &str,
        values: Vec<f32>,
        shape: &[usize],
        device: &Device,
    ) {
        let weight = match *shape {
            [n] => Weight::Vector(Tensor::from_data(TensorData::new(values, [n]), device)),
            [rows, cols] => Weight::Matrix(Tensor::from_data(
                TensorData::new(values, [rows, cols]),
                device,
            )),
            _ => panic!("`{name}`: only vectors and matrices are parameters, got shape {shape:?}"),
        };
        self.insert(name, weight);
    }
}
