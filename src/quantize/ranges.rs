//! Ranges of activations in files: their own format, and AIMET's encodings.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use super::{Params, Plan};
use crate::error::{Result, bail};
use crate::graph::{Graph, ValueId};
use crate::ops::{OutputParams, Role};
use crate::quant::{Preset, QuantParams, Range, Scheme};

/// How ranges are written; all are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RangesFormat {
    /// `{"value": {"lo": −1.0, "hi": 2.5}, …}`
    #[default]
    Plain,
    /// AIMET's encodings, version 0.6.1: maps of lists.
    Aimet061,
    /// AIMET's encodings, version 1.0.0: lists of maps.
    Aimet100,
}

/// The ranges of some activations, by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ranges(BTreeMap<String, Given>);

#[derive(Clone, Copy, Debug, PartialEq)]
struct Given {
    range: Range,
    /// Scale, lowest code and bits, if these are known: `real = scale · (code + offset)`, codes from 0.
    codes: Option<(f64, f64, u32)>,
}

impl Ranges {
    /// Reads any of the formats. Encodings of parameters are not looked at: the scales of weights follow from them.
    ///
    /// # Errors
    /// What is no such file, and where.
    pub fn from_json(text: &str) -> Result<Self> {
        let json: Json = match serde_json::from_str(text) {
            Ok(json) => json,
            Err(e) => bail!(Invalid, "not JSON: {e}"),
        };
        let Some(object) = json.as_object() else { bail!(Invalid, "expected a JSON object") };
        let given: Result<BTreeMap<String, Given>> = match object.get("activation_encodings") {
            None => {
                object.iter().map(|(name, own)| Ok((name.clone(), plain(name, own)?))).collect()
            }
            Some(Json::Object(all)) => {
                let one = |(name, own): (&String, &Json)| {
                    let own = own.as_array().and_then(|list| list.first()).unwrap_or(own);
                    Ok((name.clone(), encoding(name, own)?))
                };
                all.iter().map(one).collect()
            }
            Some(Json::Array(all)) => {
                let one = |own: &Json| match own["name"].as_str() {
                    Some(name) => Ok((name.to_owned(), encoding(name, own)?)),
                    None => bail!(Invalid, "an encoding has no name"),
                };
                all.iter().map(one).collect()
            }
            Some(_) => bail!(Invalid, "\"activation_encodings\" is neither an object nor a list"),
        };
        Ok(Self(given?))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether all are for activations of this prepared network.
    ///
    /// # Errors
    /// The names that no activation has.
    pub fn check(&self, graph: &Graph) -> Result<()> {
        let activations = by_name(graph);
        let unknown = self.0.keys().filter(|name| !activations.contains_key(name.as_str()));
        let unknown: Vec<String> = unknown.map(|name| format!("\"{name}\"")).collect();
        if !unknown.is_empty() {
            bail!(
                Invalid,
                "ranges are given for {}, which no activation of the prepared network is called",
                unknown.join(", ")
            );
        }
        Ok(())
    }

    /// Puts them in the place of those in `ranges`.
    ///
    /// # Errors
    /// Those of [`check`](Self::check).
    pub(super) fn apply(
        &self,
        graph: &Graph,
        plan: &Plan,
        ranges: &mut [Option<Range>],
    ) -> Result<()> {
        self.check(graph)?;
        let activations = by_name(graph);
        for (name, given) in &self.0 {
            let v = activations[name.as_str()];
            let node = graph.nodes.iter().position(|node| node.output == v);
            let scheme = node.map_or(plan.of_input(v), |index| plan.of_node(index));
            let is_unit =
                node.is_some_and(|i| graph.nodes[i].op.output_params() == OutputParams::Unit);
            ranges[v] = Some(given.range(scheme, is_unit));
        }
        Ok(())
    }
}

fn by_name(graph: &Graph) -> BTreeMap<&str, ValueId> {
    graph.activations().map(|v| (graph.values[v].name.as_str(), v)).collect()
}

impl Given {
    /// The range from which `scheme` makes these codes, if it has as many.
    fn range(&self, scheme: Scheme, is_unit: bool) -> Range {
        let bits = scheme.activation_width.bits();
        let Some((scale, offset, _)) = self.codes.filter(|codes| codes.2 == bits) else {
            return self.range;
        };
        let steps = ((1u64 << bits) - 1) as f64;
        let Range { lo, hi } =
            Range { lo: (scale * offset) as f32, hi: (scale * (offset + steps)) as f32 };
        if is_unit {
            return Range { lo: 0.0, hi: (scale * (1u64 << (bits - 1)) as f64) as f32 };
        }
        if scheme.preset == Preset::Shift {
            return if offset == 0.0 { Range { lo: 0.0, hi } } else { Range { lo: -hi, hi } };
        }
        // Ends are rounded: one of their neighbours has just this scale.
        let near = [hi, hi.next_up(), hi.next_down()].map(|hi| Range { lo, hi });
        let is_same = |range: &&Range| scheme.activation(**range).scale[0] == scale as f32;
        *near.iter().find(is_same).unwrap_or(&near[0])
    }
}

fn number(json: &Json) -> Option<f64> {
    json.as_f64().or_else(|| json.as_array()?.first()?.as_f64())
}

fn ordered(name: &str, lo: f64, hi: f64) -> Result<Range> {
    let range = Range { lo: lo as f32, hi: hi as f32 };
    if !(range.lo.is_finite() && range.hi.is_finite() && range.lo <= range.hi) {
        bail!(Range, "the range of \"{name}\" is {lo}…{hi}");
    }
    Ok(range)
}

fn plain(name: &str, own: &Json) -> Result<Given> {
    let pair = (own["lo"].as_f64(), own["hi"].as_f64());
    let list = (own[0].as_f64(), own[1].as_f64());
    match (pair, list) {
        ((Some(lo), Some(hi)), _) | (_, (Some(lo), Some(hi))) => {
            Ok(Given { range: ordered(name, lo, hi)?, codes: None })
        }
        _ => bail!(Invalid, "the range of \"{name}\" is not {{\"lo\": NUMBER, \"hi\": NUMBER}}"),
    }
}

/// One entry of AIMET's: of both versions, whose keys differ.
fn encoding(name: &str, own: &Json) -> Result<Given> {
    let of = |keys: [&str; 2]| keys.iter().find_map(|key| number(&own[*key]));
    let kind = own["dtype"].as_str().unwrap_or("int");
    if !kind.eq_ignore_ascii_case("int") {
        bail!(Unsupported, "the encoding of \"{name}\" is of type \"{kind}\", not of integers");
    }
    let channels = own["scale"].as_array().map_or(1, Vec::len);
    if channels > 1 {
        bail!(Unsupported, "the encoding of activation \"{name}\" has {channels} scales, not one");
    }
    let bits =
        of(["bitwidth", "bw"]).filter(|bits| (1.0..=32.0).contains(bits)).unwrap_or(8.0) as u32;
    let codes = of(["scale", "scale"]).zip(of(["offset", "offset"]));
    let steps = ((1u64 << bits) - 1) as f64;
    let ends = match (of(["min", "min"]).zip(of(["max", "max"])), codes) {
        (Some(ends), _) => ends,
        (None, Some((scale, offset))) => (scale * offset, scale * (offset + steps)),
        (None, None) => bail!(
            Invalid,
            "the encoding of \"{name}\" has neither min and max nor scale and offset"
        ),
    };
    let range = ordered(name, ends.0, ends.1)?;
    let codes =
        codes.filter(|(scale, _)| *scale > 0.0).map(|(scale, offset)| (scale, offset, bits));
    Ok(Given { range, codes })
}

/// The ranges of all activations, and the parameters that follow from them, in a file.
pub(super) fn to_json(
    graph: &Graph,
    ranges: &[Option<Range>],
    params: &Params,
    format: RangesFormat,
) -> String {
    let activations = graph.activations().filter_map(|v| {
        Some((graph.values[v].name.clone(), ranges.get(v).copied()??, params.values[v].as_ref()?))
    });
    if format == RangesFormat::Plain {
        let all: BTreeMap<String, Json> = activations
            .map(|(name, Range { lo, hi }, _)| (name, json!({"lo": lo, "hi": hi})))
            .collect();
        return format!("{:#}\n", json!(all));
    }
    let activations: BTreeMap<String, Json> = activations
        .map(|(name, _, params)| {
            let own = encodings(&name, params, format);
            (name, own)
        })
        .collect();
    let mut weights = BTreeMap::new();
    for (node, own) in graph.nodes.iter().zip(&params.constants) {
        for (argument, params) in own.iter().enumerate() {
            let is_weight = matches!(node.op.role(argument), Role::Weight { .. });
            if let Some(params) = params.as_ref().filter(|_| is_weight) {
                let name = &graph.values[node.inputs[argument]].name;
                weights.insert(name.clone(), encodings(name, params, format));
            }
        }
    }
    let json = match format {
        RangesFormat::Aimet100 => json!({
            "version": "1.0.0",
            "activation_encodings": activations.into_values().collect::<Vec<_>>(),
            "param_encodings": weights.into_values().collect::<Vec<_>>(),
        }),
        _ => json!({
            "version": "0.6.1",
            "activation_encodings": activations,
            "param_encodings": weights,
        }),
    };
    format!("{json:#}\n")
}

fn encodings(name: &str, params: &QuantParams, format: RangesFormat) -> Json {
    let (bits, lowest) = (params.width.bits(), params.width.lowest());
    let offset = (lowest - params.zero_point) as i64;
    let steps = ((1u64 << bits) - 1) as f64;
    let is_symmetric = params.zero_point == 0;
    if format == RangesFormat::Aimet100 {
        let kind = if params.scale.len() == 1 { "PER_TENSOR" } else { "PER_CHANNEL" };
        return json!({
            "name": name, "dtype": "INT", "enc_type": kind, "is_sym": is_symmetric, "bw": bits,
            "scale": params.scale, "offset": vec![offset; params.scale.len()],
        });
    }
    let one = |&scale: &f32| {
        let min = scale as f64 * offset as f64;
        let symmetric = if is_symmetric { "True" } else { "False" };
        json!({
            "bitwidth": bits, "dtype": "int", "is_symmetric": symmetric, "scale": scale, "offset": offset,
            "min": min, "max": min + steps * scale as f64,
        })
    };
    json!(params.scale.iter().map(one).collect::<Vec<_>>())
}
