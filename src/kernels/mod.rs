//! Inner loops shared by the operators. All `unsafe` of the project lives below this folder.
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
pub mod depthwise;
pub mod elementwise;
pub mod isa;
#[cfg(any(test, target_arch = "aarch64"))]
mod neon;
#[cfg(all(test, not(target_arch = "aarch64")))]
mod neon_emulated;
mod packed;
pub mod product;
mod scalar;
mod simd;
pub mod team;
pub mod winograd;

/// An expression with `S` for the [`Simd`](simd::Simd) of an [`Isa`](isa::Isa).
macro_rules! with_simd {
    ($isa:expr, $s:ident => $call:expr) => {
        match $isa {
            #[cfg(any(test, target_arch = "aarch64"))]
            $crate::kernels::isa::Isa::NeonDot => {
                type $s = $crate::kernels::neon::NeonDot;
                $call
            }
            #[cfg(target_arch = "x86_64")]
            $crate::kernels::isa::Isa::Avx2 => {
                type $s = $crate::kernels::avx2::Avx2;
                $call
            }
            #[cfg(target_arch = "x86_64")]
            $crate::kernels::isa::Isa::AvxVnni => {
                type $s = $crate::kernels::avx2::AvxVnni;
                $call
            }
            #[cfg(target_arch = "x86_64")]
            $crate::kernels::isa::Isa::Avx512Vnni => {
                type $s = $crate::kernels::avx512::Avx512Vnni;
                $call
            }
            _ => {
                type $s = $crate::kernels::scalar::Scalar;
                $call
            }
        }
    };
}
use with_simd;

/// A matrix in a slice: element `(row, column)` is at `row · strides.0 + column · strides.1`.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    /// The elements.
    pub data: &'a [f32],
    /// Distance between rows and between columns.
    pub strides: (usize, usize),
}

/// `c = a · b`, with `a` `[m, k]`, `b` `[k, n]` and `c` `[m, n]`, whose rows are `c_stride` apart.
pub fn matmul_f32([m, k, n]: [usize; 3], a: Matrix, b: Matrix, c: &mut [f32], c_stride: usize) {
    let last = |rows: usize, columns: usize, (row, column): (usize, usize)| {
        rows.saturating_sub(1) * row + columns.saturating_sub(1) * column
    };
    if m == 0 || n == 0 {
        return;
    }
    assert!(k > 0 && n <= c_stride && last(m, n, (c_stride, 1)) < c.len());
    assert!(last(m, k, a.strides) < a.data.len() && last(k, n, b.strides) < b.data.len());
    // SAFETY: the last element that each of the three matrices reaches is inside its slice, as
    // asserted above; `c` is borrowed mutably, so it overlaps neither `a` nor `b`.
    unsafe {
        matrixmultiply::sgemm(
            m,
            k,
            n,
            1.0,
            a.data.as_ptr(),
            a.strides.0 as isize,
            a.strides.1 as isize,
            b.data.as_ptr(),
            b.strides.0 as isize,
            b.strides.1 as isize,
            0.0,
            c.as_mut_ptr(),
            c_stride as isize,
            1,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matmul_by_hand() {
        let a = Matrix { data: &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], strides: (3, 1) };
        let transposed = Matrix { data: a.data, strides: (1, 3) };
        let mut c = [0.0; 4];
        matmul_f32([2, 3, 2], a, transposed, &mut c, 2);
        assert_eq!(c, [14.0, 32.0, 32.0, 77.0]);
        let mut spread = [0.0; 5];
        matmul_f32([2, 3, 2], a, transposed, &mut spread, 3);
        assert_eq!(spread, [14.0, 32.0, 0.0, 32.0, 77.0]);
    }

    #[test]
    #[should_panic]
    fn a_matrix_beyond_its_slice_is_refused() {
        let a = Matrix { data: &[1.0; 3], strides: (2, 1) };
        matmul_f32([2, 2, 1], a, Matrix { data: &[1.0; 2], strides: (1, 1) }, &mut [0.0; 2], 1);
    }
}
