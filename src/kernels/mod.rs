//! Inner loops shared by the operators. All `unsafe` of the project lives below this folder.
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
pub mod depthwise;
pub mod elementwise;
pub mod float;
pub mod isa;
mod layout;
pub mod matrix;
#[cfg(any(test, target_arch = "aarch64"))]
mod neon;
#[cfg(all(test, not(target_arch = "aarch64")))]
mod neon_emulated;
mod packed;
pub mod product;
pub mod reduce;
mod scalar;
mod simd;
pub mod team;
pub mod wide;
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

/// An expression with `S` for the [`Pairs`](simd::Pairs) of an [`Isa`](isa::Isa), or `else` another.
macro_rules! with_pairs {
    ($isa:expr, $s:ident => $call:expr, else $other:expr) => {
        match $isa {
            $crate::kernels::isa::Isa::Portable => {
                type $s = $crate::kernels::scalar::Scalar;
                $call
            }
            #[cfg(target_arch = "x86_64")]
            $crate::kernels::isa::Isa::Avx2 => {
                type $s = $crate::kernels::avx2::Avx2;
                $call
            }
            #[cfg(target_arch = "x86_64")]
            $crate::kernels::isa::Isa::Avx512Vnni => {
                type $s = $crate::kernels::avx512::Avx512Pairs;
                $call
            }
            _ => $other,
        }
    };
}
use with_pairs;

/// An expression with `S` for the [`Words`](simd::Words) of an [`Isa`](isa::Isa).
macro_rules! with_words {
    ($isa:expr, $s:ident => $call:expr) => {
        match $isa {
            #[cfg(any(test, target_arch = "aarch64"))]
            $crate::kernels::isa::Isa::NeonDot => {
                type $s = $crate::kernels::neon::NeonPairs;
                $call
            }
            #[cfg(target_arch = "x86_64")]
            $crate::kernels::isa::Isa::Avx2 | $crate::kernels::isa::Isa::AvxVnni => {
                type $s = $crate::kernels::avx2::Avx2;
                $call
            }
            #[cfg(target_arch = "x86_64")]
            $crate::kernels::isa::Isa::Avx512Vnni => {
                type $s = $crate::kernels::avx512::Avx512Pairs;
                $call
            }
            _ => {
                type $s = $crate::kernels::scalar::Scalar;
                $call
            }
        }
    };
}
use with_words;
