//! What a file says of the types and shapes of inputs and other values.

use super::importer::{Importer, Known, check_size};
use super::proto::{Dimension, DimensionValue, ValueInfoProto, data_type as dt};
use super::tensors::range;
use crate::error::{Result, bail};
use crate::graph::Value;
use crate::quant::{Given, Integer};
use crate::tensor::Shape;

impl Importer<'_> {
    /// Compares type and shape that the file gives a value with what it is. A size that the file leaves
    /// open, or calls 0, contradicts none, nor do sizes that follow from an open axis: they are those of one
    /// run. With `any_batch` this is true of the first axis.
    pub(super) fn check_declared(&self, info: &ValueInfoProto, any_batch: bool) -> Result<()> {
        let name = &info.name;
        let (Some(r#type), Some(known)) = (&info.r#type, self.known.get(name)) else {
            return Ok(());
        };
        let Some(tensor) = &r#type.tensor_type else {
            if let Known::List(_) = known {
                return Ok(());
            }
            bail!(Invalid, "\"{name}\" is a tensor, but not declared as one");
        };
        let constant = match known {
            Known::Value(v) | Known::Codes(v, _) => self.graph.values[*v].constant.is_some(),
            Known::Ints(..) | Known::Narrow(..) => true,
            Known::Index(..) | Known::List(_) | Known::Stopped { .. } => false,
        };
        let (shape, fits) = match known {
            Known::Value(v) => {
                let value = &self.graph.values[*v];
                let double = tensor.elem_type == dt::DOUBLE && value.constant.is_none();
                (&value.shape[..], dt::is_real(tensor.elem_type) && !double)
            }
            Known::Ints(t, _) => (t.shape(), !dt::is_real(tensor.elem_type)),
            Known::Narrow(t, data_type) => (t.shape(), tensor.elem_type == *data_type),
            Known::Codes(v, data_type) => {
                (&self.graph.values[*v].shape[..], tensor.elem_type == *data_type)
            }
            Known::List(_) | Known::Stopped { .. } => {
                bail!(Invalid, "\"{name}\" is a sequence, but declared as a tensor")
            }
            Known::Index(v, data_type) => {
                let kind = |data_type| if data_type == dt::INT32 { dt::INT64 } else { data_type };
                let shape = &self.graph.values[*v].shape;
                (&shape[..], kind(tensor.elem_type) == kind(*data_type))
            }
        };
        if !fits && tensor.elem_type != 0 {
            bail!(Invalid, "\"{name}\" is declared as {}, but is not", dt::name(tensor.elem_type));
        }
        let Some(declared) = tensor.shape.as_ref().map(|shape| &shape.dim) else { return Ok(()) };
        let same = |(axis, (dim, &size)): (usize, (&Dimension, &usize))| match dim.value {
            Some(DimensionValue::DimValue(d)) if d > 0 => {
                d == size as i64 || self.open_axes || axis == 0 && any_batch && !constant
            }
            _ => true,
        };
        if declared.len() != shape.len() || !declared.iter().zip(shape).enumerate().all(same) {
            let declared: Vec<String> = declared.iter().map(size_text).collect();
            let declared = declared.join(", ");
            bail!(Shape, "\"{name}\" is declared as [{declared}], but is {shape:?}");
        }
        Ok(())
    }

    /// What an input is made of; `None` for real numbers. In place of those that are not known it is others, so that the
    /// rest can be looked at.
    fn integers(&mut self, name: &str, data_type: i32) -> Result<Option<Integer>> {
        let made = dt::name(data_type);
        let known = "only float, bytes, int32 and int64 are known";
        let refuse = || bail!(Unsupported, "input \"{name}\" is made of {made}, {known}");
        let stand_in = match data_type {
            dt::FLOAT | dt::FLOAT16 | dt::BFLOAT16 => return Ok(None),
            dt::UINT8 => return Ok(Some(Integer::U8)),
            dt::INT8 => return Ok(Some(Integer::I8)),
            dt::INT32 => return Ok(Some(Integer::I32)),
            dt::INT64 => return Ok(Some(Integer::I64)),
            dt::DOUBLE => None,
            other if range(other).is_some() => Some(Integer::I32),
            _ => return refuse(),
        };
        if let Err(error) = refuse() {
            self.obstacles.add(error);
        }
        Ok(stand_in)
    }

    /// Makes an input of what the file says of it.
    pub(super) fn input(&mut self, input: &ValueInfoProto) -> Result<()> {
        let name = &input.name;
        let Some(tensor) = input.r#type.as_ref().and_then(|t| t.tensor_type.as_ref()) else {
            bail!(Unsupported, "input \"{name}\" is not a tensor");
        };
        let integers = self.integers(name, tensor.elem_type)?;
        let Some(shape) = &tensor.shape else {
            bail!(Unsupported, "input \"{name}\" has no shape");
        };
        let named = self.input_shapes.get(name);
        let data = self.data.get(name).or_else(|| self.data.get(""));
        let fits = |given: &&Shape| given.len() == shape.dim.len();
        let given = named.or_else(|| data?.iter().find(fits));
        if let Some(wrong) = given.filter(|g| g.len() != shape.dim.len()) {
            bail!(
                Shape,
                "input \"{name}\" has {} axes, the given shape is {wrong:?}",
                shape.dim.len()
            );
        }
        let mut sizes = Shape::new();
        for (axis, dim) in shape.dim.iter().enumerate() {
            sizes.push(match (&dim.value, given.map(|g| g[axis])) {
                (Some(DimensionValue::DimValue(d)), given) if *d >= 0 => {
                    let size = usize::try_from(*d).unwrap_or(usize::MAX);
                    if let Some(given) = given.filter(|&g| named.is_some() && g != size) {
                        bail!(Shape, "axis {axis} of input \"{name}\" is {size}, not {given}");
                    }
                    size
                }
                // Some exporters write an open batch as −1.
                (_, given) if axis == 0 && given.is_none_or(|g| g == 1) => {
                    self.open_batches += 1;
                    1
                }
                (_, Some(size)) => {
                    self.open_axes = true;
                    size
                }
                (_, None) => {
                    let open = || -> Result<()> {
                        bail!(
                            Unsupported,
                            "axis {axis} of input \"{name}\" is open: give its shape (--input-shape {name}=1,...)"
                        )
                    };
                    if let Err(error) = open() {
                        self.obstacles.add(error);
                    }
                    self.guess
                }
            });
        }
        check_size(name, &sizes)?;
        let given = integers.map(Given::any);
        let quant = given.map(|given| given.params());
        let value = Value { name: name.clone(), shape: sizes, quant, given, constant: None };
        let v = self.add_value(value);
        self.graph.inputs.push(v);
        let is_real = given.is_none();
        self.define(name, if is_real { Known::Value(v) } else { Known::Index(v, tensor.elem_type) })
    }
}

fn size_text(dim: &Dimension) -> String {
    match &dim.value {
        Some(DimensionValue::DimValue(d)) => d.to_string(),
        Some(DimensionValue::DimParam(name)) => name.clone(),
        None => "?".into(),
    }
}
