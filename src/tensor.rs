//! A tensor: a shape and contiguous row-major data, nothing else.

use std::iter::zip;
use std::sync::Arc;

use crate::error::{Result, bail};

#[cfg(test)]
thread_local! {
    /// What this thread has looked at, each time anew: elements of tensors, and nodes where all are gone through.
    /// Tests count it instead of time.
    pub(crate) static SEEN: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// So many elements or nodes are looked at.
#[inline(always)]
pub(crate) fn see(_count: usize) {
    #[cfg(test)]
    SEEN.set(SEEN.get() + _count as u64);
}

/// Most axes of a tensor in a file: more than any network has.
pub const MAX_RANK: usize = 64;

/// Sizes of the axes, slowest first.
pub type Shape = Vec<usize>;

/// `data[i]` in row-major order of `shape`; `data.len()` is the product of `shape`. A clone shares the
/// elements until one of the two is changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tensor<T> {
    shape: Shape,
    data: Arc<Vec<T>>,
}

impl<T> Tensor<T> {
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) unless `data.len()` is the product of `shape`.
    pub fn new(shape: impl Into<Shape>, data: Vec<T>) -> Result<Self> {
        Self::from_vec(data).reshape(shape)
    }

    /// As [`new`](Self::new), where the number of elements follows from the shape.
    ///
    /// # Panics
    /// If it does not.
    pub fn of(shape: impl Into<Shape>, data: Vec<T>) -> Self {
        match Self::new(shape, data) {
            Ok(tensor) => tensor,
            Err(error) => panic!("{error}"),
        }
    }

    /// A tensor of rank 1.
    pub fn from_vec(data: Vec<T>) -> Self {
        Self { shape: vec![data.len()], data: Arc::new(data) }
    }

    /// Sizes of the axes, slowest first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The elements in row-major order.
    pub fn data(&self) -> &[T] {
        see(self.data.len());
        &self.data
    }

    /// The elements in row-major order.
    pub fn data_mut(&mut self) -> &mut [T]
    where
        T: Clone,
    {
        Arc::make_mut(&mut self.data).as_mut_slice()
    }

    /// The elements, without the shape.
    pub fn into_data(self) -> Vec<T>
    where
        T: Clone,
    {
        Arc::unwrap_or_clone(self.data)
    }

    /// The same elements under another shape.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if the number of elements differs.
    pub fn reshape(self, shape: impl Into<Shape>) -> Result<Self> {
        let shape = shape.into();
        if checked_len(&shape)? != self.data.len() {
            bail!(Shape, "shape {shape:?} does not hold {} elements", self.data.len());
        }
        Ok(Self { shape, ..self })
    }

    /// Applies `f` to every element.
    pub fn map<U>(&self, f: impl FnMut(&T) -> U) -> Tensor<U> {
        let data = self.data().iter().map(f).collect();
        Tensor { shape: self.shape.clone(), data: Arc::new(data) }
    }
}

impl<T: Copy> Tensor<T> {
    /// `y[i_perm[0], i_perm[1], …] = x[i_0, i_1, …]`, as ONNX `Transpose`.
    ///
    /// `perm` must be a permutation of the axes.
    pub fn transpose(&self, perm: &[usize]) -> Self {
        let shape = permuted(&self.shape, perm);
        let indices = strided_indices(shape.clone(), permuted(&strides(&self.shape), perm));
        Self { shape, data: Arc::new(indices.map(|i| self.data[i]).collect()) }
    }

    /// As [`transpose`](Self::transpose), in place where the first axis stays the first.
    pub fn into_transposed(mut self, perm: &[usize]) -> Self {
        if perm.first() != Some(&0) {
            return self.transpose(perm);
        }
        let shape = permuted(&self.shape, perm);
        let steps = permuted(&strides(&self.shape), perm);
        let from: Vec<usize> = strided_indices(shape[1..].to_vec(), steps[1..].to_vec()).collect();
        if !from.is_sorted() {
            let mut block = Vec::with_capacity(from.len());
            for data in self.data_mut().chunks_exact_mut(from.len()) {
                block.clear();
                block.extend_from_slice(data);
                data.iter_mut().zip(&from).for_each(|(x, &i)| *x = block[i]);
            }
        }
        Self { shape, ..self }
    }
}

/// The product of `shape`, refused where it does not fit `isize` bytes of 8-byte elements.
pub fn checked_len(shape: &[usize]) -> Result<usize> {
    match shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)) {
        Some(n) if n <= isize::MAX as usize / 8 => Ok(n),
        _ => bail!(Shape, "shape {shape:?} has too many elements"),
    }
}

/// For each element of a row-major tensor of shape `shape`, the sum of its position times `strides`.
///
/// Permuted strides transpose; a stride of 0 broadcasts.
pub fn strided_indices(shape: Shape, strides: Vec<usize>) -> impl Iterator<Item = usize> {
    let n: usize = shape.iter().product();
    // Axes of one position, of which there may be many, take no time.
    let mut axes: Vec<[usize; 3]> =
        zip(shape, strides).filter(|axis| axis.0 != 1).map(|(d, step)| [d, step, 0]).collect();
    let mut index = 0;
    (0..n).map(move |_| {
        let current = index;
        for [size, stride, position] in axes.iter_mut().rev() {
            *position += 1;
            index += *stride;
            if position < size {
                break;
            }
            index -= *position * *stride;
            *position = 0;
        }
        current
    })
}

/// Distance between neighbours along each axis of a row-major tensor.
pub fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
}

/// The shape that `a` and `b` have in common after NumPy's broadcasting rule.
pub fn broadcast(a: &[usize], b: &[usize]) -> Result<Shape> {
    let rank = a.len().max(b.len());
    let size = |s: &[usize], axis: usize| match (axis + s.len()).checked_sub(rank) {
        Some(i) => s[i],
        None => 1,
    };
    (0..rank)
        .map(|axis| match (size(a, axis), size(b, axis)) {
            (x, y) if x == y || y == 1 => Ok(x),
            (1, y) => Ok(y),
            _ => bail!(Shape, "shapes {a:?} and {b:?} do not broadcast"),
        })
        .collect()
}

/// Strides along the axes of `to` for a tensor of shape `from` and `strides` that is broadcast to it.
pub fn broadcast_strides(from: &[usize], strides: &[usize], to: &[usize]) -> Vec<usize> {
    let missing = to.len() - from.len();
    let own = from.iter().zip(strides).map(|(&size, &stride)| if size == 1 { 0 } else { stride });
    std::iter::repeat_n(0, missing).chain(own).collect()
}

/// `list[perm[0]], list[perm[1]], …`
pub fn permuted(list: &[usize], perm: &[usize]) -> Vec<usize> {
    perm.iter().map(|&p| list[p]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transpose_moves_axes() {
        let x = Tensor::new([2, 3], vec![1, 2, 3, 4, 5, 6]).unwrap();
        assert_eq!(x.transpose(&[1, 0]).data(), [1, 4, 2, 5, 3, 6]);
        assert_eq!(x.transpose(&[1, 0]).transpose(&[1, 0]), x);
        let x = Tensor::new([1, 2, 2, 3], (0..12).collect()).unwrap();
        assert_eq!(x.transpose(&[0, 2, 3, 1]).data(), [0, 6, 1, 7, 2, 8, 3, 9, 4, 10, 5, 11]);
        let x = Tensor::new([3, 2, 4, 1, 2], (0..48).collect()).unwrap();
        for perm in [[0, 2, 3, 4, 1], [0, 3, 1, 2, 4], [0, 1, 4, 3, 2], [1, 0, 2, 3, 4]] {
            assert_eq!(x.clone().into_transposed(&perm), x.transpose(&perm));
        }
    }

    #[test]
    fn clones_share_their_elements_until_one_is_changed() {
        let x = Tensor::from_vec(vec![1, 2, 3]);
        let mut y = x.clone();
        assert!(std::ptr::eq(x.data(), y.data()));
        y.data_mut()[0] = 7;
        assert_eq!((x.data(), y.data()), (&[1, 2, 3][..], &[7, 2, 3][..]));
        assert!(std::ptr::eq(x.data(), x.clone().reshape([3, 1]).unwrap().data()));
    }

    #[test]
    fn broadcasting_follows_numpy() {
        assert_eq!(broadcast(&[2, 1, 4], &[3, 1]).unwrap(), [2, 3, 4]);
        assert!(broadcast(&[2], &[3]).is_err());
        let steps = broadcast_strides(&[2, 1], &strides(&[2, 1]), &[2, 2, 3]);
        let indices: Vec<_> = strided_indices(vec![2, 2, 3], steps).collect();
        assert_eq!(indices, [0, 0, 0, 1, 1, 1, 0, 0, 0, 1, 1, 1]);
    }

    #[test]
    fn lengths_are_checked() {
        assert!(Tensor::new([2, 3], vec![0; 5]).is_err());
        assert!(checked_len(&[usize::MAX, 2]).is_err());
        assert!(checked_len(&[usize::MAX / 8]).is_err());
    }
}
