//! All that has been measured of a network with widths of its own; in a file, too, so that a search can go on.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Cost;
use super::mixed::{Mixed, Widths};
use crate::data::write_atomic;
use crate::error::{Context, Result, bail};
use crate::graph::Graph;

const VERSION: u32 = 1;

/// What is known, by widths.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Known {
    version: u32,
    /// A hash of the network, of what was asked for, and of the data.
    of: String,
    /// Names of the units.
    units: Vec<String>,
    /// Networks put together; nothing where one has no integer form.
    pub measured: BTreeMap<String, Option<Measured>>,
    /// Points, of 1, by which top-1 of networks put together is lower than the float network's.
    pub top1: BTreeMap<String, f32>,
}

/// Of one network.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Of the outputs' error, against that of the signal.
    pub energy: f32,
    #[serde(flatten)]
    pub cost: Cost,
}

/// Bits of each unit, as hexadecimal digits: `0` is 16.
pub fn key(widths: &Widths) -> String {
    widths.iter().map(|width| char::from_digit(width.bits() % 16, 16).unwrap_or('?')).collect()
}

impl Known {
    /// Nothing, of this network and what `asked` says.
    pub fn nothing(mixed: &Mixed, graph: &Graph, asked: &str) -> Self {
        let names = graph.values.iter().map(|value| value.name.as_bytes());
        let mut hash =
            names.chain([asked.as_bytes()]).flatten().fold(SEED, |h, &b| mix(h, b.into()));
        for real in (0..graph.values.len()).filter_map(|v| graph.real_constant(v)) {
            hash = real.data().iter().fold(hash, |h, x| mix(h, x.to_bits().into()));
        }
        Self {
            version: VERSION,
            of: format!("{hash:016x}"),
            units: mixed.units.iter().map(|unit| unit.name.clone()).collect(),
            ..Self::default()
        }
    }

    /// Adds what the file holds, if it is there.
    ///
    /// # Errors
    /// A file that is none of these, or of another search.
    pub fn read(self, path: &Path) -> Result<Self> {
        if !path.exists() {
            return Ok(self);
        }
        let text = std::fs::read_to_string(path).in_file(path)?;
        let read = || match serde_json::from_str::<Self>(&text) {
            Ok(other) if other.version != VERSION => {
                bail!(Unsupported, "a search of version {}, expected {VERSION}", other.version)
            }
            Ok(other) if other.of == self.of && other.units == self.units => Ok(other),
            Ok(_) => bail!(Invalid, "a search of another network, other data or other options"),
            Err(error) => bail!(Invalid, "not a search: {error}"),
        };
        read().in_file(path)
    }

    /// Writes all of it: the old file or the new one is there at any time.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn write(&self, path: &Path) -> Result<()> {
        write_atomic(path, serde_json::to_string_pretty(self).unwrap_or_default().as_bytes())
    }
}

const SEED: u64 = 0xCBF2_9CE4_8422_2325;

/// FNV-1a.
fn mix(hash: u64, bits: u64) -> u64 {
    let hash = (hash ^ bits).wrapping_mul(0x0000_0100_0000_01B3);
    hash ^ hash >> 32
}
