//! Integer reference of every operator that picks elements by their position along each axis: slice,
//! padding, nearest-neighbour resize. `core` only: it can be deployed as it is.

use crate::arith::Code;

/// Stands in [`pick`]'s offsets where there is no element to be picked.
pub const NONE: u32 = u32::MAX;

/// `y[i_0, i_1, …] = x[offsets_0[i_0] + offsets_1[i_1] + …]`, or `fill` if one of them is [`NONE`].
///
/// `offsets` holds the lists of all axes one after the other; their lengths are `shape`, that of `y`.
pub fn pick<X: Code>(x: &[X], shape: &[usize], offsets: &[u32], fill: X, y: &mut [X]) {
    for (i, y) in y.iter_mut().enumerate() {
        let (mut rest, mut end) = (i, offsets.len());
        let mut index = Some(0);
        for &size in shape.iter().rev() {
            let offset = offsets[end - size + rest % size];
            index = index.filter(|_| offset != NONE).map(|sum| sum + offset as usize);
            rest /= size;
            end -= size;
        }
        *y = match index {
            Some(index) => x[index],
            None => fill,
        };
    }
}
