//! An [`Observer`] as JSON, so that calibration can be spread over machines and merged.
//!
//! Floats are written as their bits and sums as text: what is read is what was written. And what is written does not
//! depend on the machine: [products are summed](crate::kernels::float) in one order everywhere, and functions
//! such as `exp` are those of `libm`, never of the system.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::channels::{ALL_BINS, Channel, ChannelStats};
use super::histogram::{BINS, Histogram};
use super::{Observer, Seen, fixed, real};
use crate::data::Preprocess;
use crate::error::{Result, bail};
use crate::graph::Graph;
use crate::ops::clip::Clip;
use crate::tensor::Tensor;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// Name of the network.
    network: String,
    samples: u64,
    values: Vec<Entry>,
    /// Samples that were kept, input by input: eight hexadecimal digits for each number.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    kept: Vec<Vec<String>>,
    /// Of all samples.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hash: Option<u64>,
    /// How they were made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    preprocess: Option<Preprocess>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    exponent: i32,
    lo_bits: u32,
    hi_bits: u32,
    lo_sum: String,
    hi_sum: String,
    samples: u64,
    /// `[bin, count]` of bins that are not empty.
    counts: Vec<(usize, u64)>,
    channel_sums: Vec<String>,
    /// What else was seen of channels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    channels: Vec<ChannelEntry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ChannelEntry {
    lo_bits: u32,
    hi_bits: u32,
    squares: String,
    inside: u64,
    /// `[bin, count]` of bins that are not empty: of magnitudes of negative numbers, and of others.
    bins: [Vec<(usize, u32)>; 2],
}

impl ChannelEntry {
    fn new(channel: &Channel) -> Self {
        let filled = |bins: &Vec<u32>| {
            bins.iter().copied().enumerate().filter(|&(_, n)| n > 0).collect::<Vec<_>>()
        };
        Self {
            lo_bits: channel.lo.to_bits(),
            hi_bits: channel.hi.to_bits(),
            squares: channel.squares.to_string(),
            inside: channel.inside,
            bins: channel.bins.each_ref().map(filled),
        }
    }

    /// The channel of this sum; `None` if it cannot be.
    fn read(&self, sum: i128) -> Option<Channel> {
        let mut bins = [vec![], vec![]];
        for (bins, filled) in bins.iter_mut().zip(&self.bins).filter(|(_, it)| !it.is_empty()) {
            bins.resize(ALL_BINS, 0);
            for &(bin, n) in filled {
                *bins.get_mut(bin)? = n;
            }
        }
        Some(Channel {
            lo: f32::from_bits(self.lo_bits),
            hi: f32::from_bits(self.hi_bits),
            sum,
            squares: self.squares.parse().ok()?,
            inside: self.inside,
            bins,
        })
    }
}

impl Observer {
    /// What was seen of `graph`, as JSON.
    pub fn to_json(&self, graph: &Graph) -> String {
        let seen = self.seen.iter().enumerate();
        let values = seen.filter_map(|(v, seen)| {
            let Seen { histogram: h, channels, .. } = seen.as_ref()?;
            let is_whole = channels.samples == h.samples;
            let entries = channels.channels.iter().filter(|_| is_whole).map(ChannelEntry::new);
            let counts = h.counts.iter().copied().enumerate().filter(|&(_, n)| n > 0);
            Some(Entry {
                name: graph.values[v].name.clone(),
                exponent: h.exponent,
                lo_bits: h.lo.to_bits(),
                hi_bits: h.hi.to_bits(),
                lo_sum: h.lo_sum.to_string(),
                hi_sum: h.hi_sum.to_string(),
                samples: h.samples,
                counts: counts.collect(),
                channel_sums: channels.sums().map(|sum| sum.to_string()).collect(),
                channels: entries.collect(),
            })
        });
        let file = File {
            network: graph.name.clone(),
            samples: self.samples(),
            values: values.collect(),
            kept: self.kept().map(|inputs| inputs.iter().map(digits).collect()).collect(),
            hash: self.hash,
            preprocess: self.preprocess.clone(),
        };
        // The types above have no value that JSON cannot hold.
        serde_json::to_string(&file).unwrap_or_default()
    }

    /// Reads what [`to_json`](Self::to_json) wrote for the same graph.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) if it is broken, contradicts itself, or is of another graph.
    pub fn from_json(text: &str, graph: &Graph) -> Result<Self> {
        let file: File = match serde_json::from_str(text) {
            Ok(file) => file,
            Err(e) => bail!(Invalid, "not calibration statistics: {e}"),
        };
        if file.network != graph.name {
            let (theirs, ours) = (file.network, &graph.name);
            bail!(Invalid, "the statistics are of network \"{theirs}\", not of \"{ours}\"");
        }
        if !(1..1 << 48).contains(&file.samples) {
            bail!(Invalid, "calibration statistics of {} samples", file.samples);
        }
        let mut observer =
            Self { hash: file.hash, preprocess: file.preprocess, ..Self::new(graph) };
        for inputs in &file.kept {
            if inputs.len() != graph.inputs.len() {
                bail!(
                    Invalid,
                    "a kept sample has {} of {} inputs",
                    inputs.len(),
                    graph.inputs.len()
                );
            }
            let shapes = graph.inputs.iter().map(|&v| &graph.values[v].shape);
            let inputs = inputs.iter().zip(shapes).map(|(digits, shape)| numbers(digits, shape));
            observer.kept.see(&inputs.collect::<Result<Vec<_>>>()?);
        }
        let named = graph.values.iter().enumerate().map(|(v, value)| (value.name.as_str(), v));
        let named: HashMap<&str, usize> = named.collect();
        for entry in file.values {
            let v = named.get(&*entry.name).copied();
            let shape = v.map_or(&[][..], |v| &graph.values[v].shape);
            match v.and_then(|v| observer.seen[v].as_mut()) {
                Some(seen) if seen.histogram.samples == 0 => {
                    let limits = seen.limits;
                    *seen = Seen { limits, ..entry.read(shape, file.samples)? }
                }
                Some(_) => {
                    bail!(Invalid, "value \"{}\" stands twice in the statistics", entry.name)
                }
                None => bail!(
                    Invalid,
                    "the statistics are of another network: no value \"{}\"",
                    entry.name
                ),
            }
        }
        let unseen = (0..graph.values.len())
            .find(|&v| observer.seen[v].as_ref().is_some_and(|seen| seen.histogram.samples == 0));
        match unseen {
            Some(v) => {
                bail!(Invalid, "the statistics say nothing of value \"{}\"", graph.values[v].name)
            }
            None => Ok(observer),
        }
    }
}

fn digits(x: &Tensor<f32>) -> String {
    x.data().iter().map(|x| format!("{:08x}", x.to_bits())).collect()
}

/// The tensor of which `text` has the [`digits`].
fn numbers(text: &str, shape: &[usize]) -> Result<Tensor<f32>> {
    let (digits, rest) = text.as_bytes().as_chunks::<8>();
    let number = |digits: &[u8; 8]| {
        let bits = u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        Some(f32::from_bits(bits)).filter(|x| x.is_finite())
    };
    match digits.iter().map(number).collect::<Option<Vec<f32>>>() {
        Some(numbers) if rest.is_empty() => Tensor::new(shape, numbers),
        _ => bail!(Invalid, "a kept sample holds what is no finite number"),
    }
}

impl ChannelStats {
    /// Those of a value of shape `shape`, of which the file has only `sums` if there are no entries; `None` if they contradict
    /// each other.
    fn read(
        entries: &[ChannelEntry],
        sums: Vec<i128>,
        shape: &[usize],
        samples: u64,
    ) -> Option<Self> {
        if entries.is_empty() {
            let of = |sum| Channel { sum, ..Channel::default() };
            return Some(Self { channels: sums.into_iter().map(of).collect(), ..Self::default() });
        }
        let pairs = entries.iter().zip(&sums);
        let channels: Option<Vec<Channel>> = pairs.map(|(entry, &sum)| entry.read(sum)).collect();
        let mut stats = Self { channels: channels?, ..Self::default() };
        stats.add_samples(samples, shape);
        let possible = |channel: &Channel| channel.is_possible(stats.counted);
        (entries.len() == sums.len() && stats.channels.iter().all(possible)).then_some(stats)
    }
}

impl Entry {
    /// What was seen of a value of shape `shape` in `samples` samples.
    fn read(self, shape: &[usize], samples: u64) -> Result<Seen> {
        let name = &self.name;
        let number = |text: &String| match text.parse::<i128>() {
            Ok(number) => Ok(number),
            Err(_) => bail!(Invalid, "value \"{name}\": \"{text}\" is not an integer"),
        };
        let mut counts = vec![0u64; BINS];
        for &(bin, count) in &self.counts {
            match counts.get_mut(bin) {
                Some(place) if *place == 0 && count < 1 << 48 => *place = count,
                _ => bail!(Invalid, "value \"{name}\": bin {bin} with {count} counts"),
            }
        }
        let (lo, hi) = (f32::from_bits(self.lo_bits), f32::from_bits(self.hi_bits));
        if !(lo.is_finite() && hi.is_finite() && lo <= hi && (-160..=128).contains(&self.exponent))
        {
            bail!(Invalid, "value \"{name}\": range {lo} to {hi} in bins of 2^{}", self.exponent);
        }
        let channels = shape.get(1).copied().unwrap_or(1);
        if self.channel_sums.len() != channels || self.samples != samples {
            let (n, seen) = (self.channel_sums.len(), self.samples);
            bail!(
                Invalid,
                "value \"{name}\": {n} of {channels} channels in {seen} of {samples} samples"
            );
        }
        let sums = self.channel_sums.iter().map(number).collect::<Result<Vec<_>>>()?;
        let channels = match ChannelStats::read(&self.channels, sums, shape, samples) {
            Some(channels) => channels,
            None => bail!(Invalid, "value \"{name}\": channels that cannot have been seen"),
        };
        let (lo_sum, hi_sum) = (number(&self.lo_sum)?, number(&self.hi_sum)?);
        let histogram =
            Histogram { counts, exponent: self.exponent, lo, hi, lo_sum, hi_sum, samples };
        let seen = Seen { histogram, channels, limits: Clip::NONE };
        match seen.contradiction(shape.iter().product()) {
            Some(what) => bail!(Invalid, "value \"{name}\": {what}"),
            None => Ok(seen),
        }
    }
}

impl Seen {
    /// What cannot have been seen of a value of `len` elements.
    fn contradiction(&self, len: usize) -> Option<&'static str> {
        let h = &self.histogram;
        let elements = h.samples as u128 * len as u128;
        if h.counts.iter().map(|&n| n as u128).sum::<u128>() != elements {
            return Some("the counts are not of all its elements");
        }
        let filled = |n: &u64| *n > 0;
        let ends = [h.counts.iter().position(filled), h.counts.iter().rposition(filled)];
        if ends != [h.bin(h.lo), h.bin(h.hi)] {
            return Some("its range does not end where its counts do");
        }
        let times = |x: f32, n: u64| (n as i128).saturating_mul(fixed(x as f64));
        let (lowest, highest) = (times(h.lo, h.samples), times(h.hi, h.samples));
        if !(lowest <= h.lo_sum && h.lo_sum <= h.hi_sum && h.hi_sum <= highest) {
            return Some("the sums of its ends are outside its range");
        }
        // Sums of a sample's numbers are rounded, and stop counting at the end of what can be counted.
        let n = elements as f64 / self.channels.len().max(1) as f64;
        let slack = 1e-6 * n * (h.lo.abs().max(h.hi.abs()) as f64 + 1e-12);
        let most = real(i128::MAX);
        let within = |sum: i128| {
            let bound = |x: f32, slack: f64| (n * x as f64 + slack).clamp(-most, most);
            (bound(h.lo, -slack)..=bound(h.hi, slack)).contains(&real(sum))
        };
        if self.channels.sums().any(|sum| !within(sum)) {
            return Some("the sums of its channels are outside its range");
        }
        let is_whole = self.channels.samples == h.samples && !self.channels.is_empty();
        (is_whole && self.channels.range() != (h.lo, h.hi))
            .then_some("its channels have another range")
    }
}
