//! How codes lie in the arena, and what a thread needs beside it.

use crate::codes::Codes;
use crate::kernels::product::Buffer;
use crate::quant::Width;

/// Memory of one thread.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    pub buffer: Buffer,
    pub sums: Vec<i32>,
    pub numbers: Vec<f64>,
    /// Rows and columns of matrices.
    pub single: Vec<[f32; 16]>,
    pub double: Vec<[f64; 8]>,
    /// Codes of a line of an input before its axes are moved.
    pub planes: Vec<u8>,
}

/// Elements of each part of [`Scratch`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Sizes {
    pub buffer: usize,
    pub numbers: usize,
    pub panels: [usize; 2],
    pub planes: usize,
}

impl Sizes {
    /// What serves both.
    pub fn max(self, other: Self) -> Self {
        Self {
            buffer: self.buffer.max(other.buffer),
            numbers: self.numbers.max(other.numbers),
            panels: [0, 1].map(|i| self.panels[i].max(other.panels[i])),
            planes: self.planes.max(other.planes),
        }
    }

    pub fn scratch(self) -> Scratch {
        Scratch {
            buffer: Buffer::new(self.buffer),
            sums: vec![0; self.numbers],
            numbers: vec![0.0; self.numbers],
            planes: vec![0; self.planes],
            single: vec![Default::default(); self.panels[0]],
            double: vec![Default::default(); self.panels[1]],
        }
    }
}

/// Codes of 8 bits lie in memory as the kernels of the chosen instructions want them, `flip` apart, those of 16
/// as two bytes.
pub fn to_codes(width: Width, bytes: &[u8], flip: u8) -> Codes {
    match width {
        Width::W4 | Width::W8 => Codes::I8(bytes.iter().map(|byte| (byte ^ flip) as i8).collect()),
        Width::W16 | Width::W32 => {
            let pairs = bytes.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]]));
            Codes::I16(pairs.collect())
        }
    }
}

/// The reverse of [`to_codes`].
pub fn to_bytes(codes: &Codes, flip: u8) -> Vec<u8> {
    match codes {
        Codes::I8(codes) => codes.iter().map(|&code| code as u8 ^ flip).collect(),
        Codes::I16(codes) => codes.iter().flat_map(|code| code.to_le_bytes()).collect(),
    }
}
