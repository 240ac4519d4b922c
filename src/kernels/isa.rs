//! Which instructions the kernels may use, chosen when the program runs.

use std::fmt::{self, Display};
use std::str::FromStr;

use crate::error::{Error, Result, bail};

/// A set of kernels. All of them compute the same codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// Rust as it is; every machine has it.
    Portable,
    /// AArch64 with the dot product, `sdot`. The tests of the kernels emulate it on other machines.
    NeonDot,
    /// x86-64 with AVX2 and FMA.
    Avx2,
    /// The same with AVX-VNNI.
    AvxVnni,
    /// AVX2 with AVX-512 (F, BW, VL) and its VNNI.
    Avx512Vnni,
}

impl Isa {
    /// All of them, the fastest one last.
    pub const ALL: [Self; 5] =
        [Self::Portable, Self::NeonDot, Self::Avx2, Self::AvxVnni, Self::Avx512Vnni];

    /// The fastest one that this machine has.
    pub fn detect() -> Self {
        let available = Self::ALL.into_iter().rev().find(|isa| isa.is_available());
        available.unwrap_or(Self::Portable)
    }

    /// Whether this machine has it.
    pub fn is_available(self) -> bool {
        match self {
            Self::Portable => true,
            // Its kernels take words of codes as they lie in memory.
            #[cfg(target_arch = "aarch64")]
            Self::NeonDot => {
                cfg!(target_endian = "little") && std::arch::is_aarch64_feature_detected!("dotprod")
            }
            #[cfg(not(target_arch = "aarch64"))]
            Self::NeonDot => cfg!(all(test, target_endian = "little")),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(target_arch = "x86_64")]
            Self::AvxVnni => Self::Avx2.is_available() && is_x86_feature_detected!("avxvnni"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Vnni => {
                Self::Avx2.is_available()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512vnni")
            }
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx2 | Self::AvxVnni | Self::Avx512Vnni => false,
        }
    }

    /// Multiply-accumulates of 8-bit codes that a core can do in a cycle, if that is known: two
    /// `vpmaddwd` of 16 products each, or two
    /// `vpdpbusd` of 32 or 64. For `sdot`, of 16, two pipes are assumed, as a Cortex-A76 has; small cores
    /// have one and the largest four.
    pub fn macs_per_cycle(self) -> Option<u32> {
        match self {
            Self::Portable => None,
            Self::NeonDot | Self::Avx2 => Some(32),
            Self::AvxVnni => Some(64),
            Self::Avx512Vnni => Some(128),
        }
    }

    /// A code is kept in memory as `code ^ flip`: codes that are unsigned in the kernel are 128 more than
    /// they are.
    pub(crate) fn flip(self) -> u8 {
        match self {
            Self::Portable | Self::NeonDot | Self::Avx2 => 0,
            Self::AvxVnni | Self::Avx512Vnni => 0x80,
        }
    }

    /// Numbers of 32 bits in a register.
    pub(crate) fn lanes(self) -> usize {
        match self {
            Self::Portable | Self::NeonDot => 4,
            Self::Avx2 | Self::AvxVnni => 8,
            Self::Avx512Vnni => 16,
        }
    }

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::NeonDot => "neondot",
            Self::Avx2 => "avx2",
            Self::AvxVnni => "avxvnni",
            Self::Avx512Vnni => "avx512vnni",
        }
    }
}

/// Techniques that are not used, to see what they bring. The codes are the same without them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Without {
    /// Rounding in `f32` where that is exact: it is done in `f64`.
    pub single: bool,
    /// Windows that are read where they lie: lines of the input are copied first.
    pub direct: bool,
    /// Depthwise convolutions of their own: they are products with a group for each channel.
    pub depthwise: bool,
    /// Fewer products for windows of 3×3.
    pub winograd: bool,
}

impl Without {
    /// Their names on the command line.
    pub const NAMES: [&str; 4] = ["single", "direct", "depthwise", "winograd"];
}

impl FromStr for Without {
    type Err = Error;

    /// Of names with commas between them.
    fn from_str(names: &str) -> Result<Self> {
        let mut without = Self::default();
        for name in names.split(',') {
            match name {
                "single" => without.single = true,
                "direct" => without.direct = true,
                "depthwise" => without.depthwise = true,
                "winograd" => without.winograd = true,
                _ => bail!(
                    Invalid,
                    "\"{name}\" is no technique: expected some of {}",
                    Self::NAMES.join(", ")
                ),
            }
        }
        Ok(without)
    }
}

/// Which kernels to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Choice {
    pub isa: Isa,
    pub without: Without,
}

impl Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Isa {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match Self::ALL.into_iter().find(|isa| isa.name() == name) {
            Some(isa) => Ok(isa),
            None => {
                let names = Self::ALL.map(Self::name).join(", ");
                bail!(Invalid, "\"{name}\" is no instruction set: expected one of {names}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_again() {
        for isa in Isa::ALL {
            assert_eq!(isa.to_string().parse::<Isa>().unwrap(), isa);
        }
        assert!("neon".parse::<Isa>().is_err());
        let all = Without { single: true, direct: true, depthwise: true, winograd: true };
        assert_eq!(Without::NAMES.join(",").parse::<Without>().unwrap(), all);
        let error = "direct,all".parse::<Without>().unwrap_err().to_string();
        assert!(error.contains("\"all\"") && error.contains("single, direct"), "{error}");
        assert!(Isa::detect().is_available() && Isa::Portable.is_available());
    }
}
