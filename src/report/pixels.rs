//! Samples as pictures, in a format that needs no compression: BMP in a `data:` address.

use crate::quant::QuantParams;
use crate::tensor::Tensor;

/// Larger pictures are made smaller.
const LARGEST: usize = 112;

/// Rows of pixels, red, green, blue.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Picture {
    /// Pixels of a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Three bytes for each pixel.
    pub pixels: Vec<u8>,
}

/// Rows, columns and channels of a tensor, and the steps between their elements: an image, or whatever it has last.
fn plane(shape: &[usize]) -> ([usize; 3], [usize; 3]) {
    match *shape {
        [_, c @ (1 | 3), h, w] => ([h, w, c], [w, 1, h * w]),
        [_, h, w, c @ (1 | 3)] => ([h, w, c], [w * c, c, 1]),
        [.., h, w] => ([h, w, 1], [w, 1, 0]),
        [w] => ([1, w, 1], [w, 1, 0]),
        [] => ([1, 1, 1], [1, 1, 0]),
    }
}

impl Picture {
    /// `x` from black, `lo`, to white, `hi`; as its codes show it if `quant` says how they are read.
    pub fn new(x: &Tensor<f32>, quant: Option<&QuantParams>, [lo, hi]: [f32; 2]) -> Self {
        let ([rows, columns, channels], steps) = plane(x.shape());
        let shrink = rows.max(columns).div_ceil(LARGEST).max(1);
        let (height, width) = (rows.div_ceil(shrink), columns.div_ceil(shrink));
        let seen = |x: f32| quant.map_or(x, |quant| quant.dequantize(quant.quantize(x, 0), 0));
        let mean = |y: usize, x0: usize, channel: usize| {
            let ys = y * shrink..rows.min((y + 1) * shrink);
            let places =
                ys.flat_map(|y| (x0 * shrink..columns.min((x0 + 1) * shrink)).map(move |x| (y, x)));
            let at = |(row, column)| steps[0] * row + steps[1] * column + steps[2] * channel;
            let all = places.filter_map(|place| x.data().get(at(place)).copied());
            let (sum, count) = all.fold((0.0, 0), |(sum, n), x| (sum + seen(x), n + 1));
            let share = (sum / count.max(1) as f32 - lo) / (hi - lo).max(f32::MIN_POSITIVE);
            (255.0 * share.clamp(0.0, 1.0)).round() as u8
        };
        let places = (0..height).flat_map(|y| (0..width).map(move |x| (y, x)));
        let pixels = places.flat_map(|(y, x)| [0, 1, 2].map(|c| mean(y, x, c % channels)));
        Self { width, height, pixels: pixels.collect() }
    }

    /// An address that holds the picture itself.
    pub fn address(&self) -> String {
        format!("data:image/bmp;base64,{}", base64(&self.bmp()))
    }

    fn bmp(&self) -> Vec<u8> {
        const HEAD: u32 = 54;
        let [width, height] = [self.width, self.height].map(|size| size as u32);
        let row = (3 * self.width).next_multiple_of(4);
        let size = HEAD + height * row as u32;
        let planes_and_bits = 1 | 24 << 16;
        let numbers = [size, 0, HEAD, 40, width, height, planes_and_bits, 0, 0, 0, 0, 0, 0];
        let head = numbers.into_iter().flat_map(u32::to_le_bytes);
        let mut bytes: Vec<u8> = b"BM".iter().copied().chain(head).collect();
        // From the lowest row to the highest, blue first.
        for line in self.pixels.chunks(3 * self.width.max(1)).rev() {
            bytes.extend(line.chunks(3).flat_map(|pixel| pixel.iter().rev()));
            bytes.resize(bytes.len() + row - line.len(), 0);
        }
        bytes
    }
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let at = |i: usize| u32::from(three.get(i).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for i in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * i)) as usize & 63];
            text.push(if i > three.len() { '=' } else { digit as char });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_by_the_rfc() {
        let known = ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"];
        for (len, expected) in known.into_iter().enumerate() {
            assert_eq!(base64(&b"foobar"[..len]), expected);
        }
    }

    #[test]
    fn pictures_have_the_colours_of_their_channels() {
        let x = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0];
        for (shape, first) in
            [([1, 3, 1, 2], [0, 102, 204]), ([1, 1, 2, 3], [0, 0, 0]), ([1, 2, 1, 3], [0, 51, 102])]
        {
            let x = Tensor::new(shape, x.to_vec()).unwrap();
            let picture = Picture::new(&x, None, [0.0, 5.0]);
            assert_eq!(picture.pixels[..3], first, "{shape:?}");
        }
    }

    #[test]
    fn what_is_too_large_is_averaged() {
        let x = Tensor::new([1, 1, 1, 224], (0..224).map(|i| (i % 2) as f32).collect()).unwrap();
        let picture = Picture::new(&x, None, [0.0, 1.0]);
        assert_eq!((picture.width, picture.height, picture.pixels[0]), (112, 1, 128));
    }

    #[test]
    fn the_lowest_row_of_a_file_comes_first() {
        let x = Tensor::new([1, 3, 2, 3], (0..18).map(|i| i as f32).collect()).unwrap();
        let picture = Picture::new(&x, None, [0.0, 17.0]);
        let bmp = picture.bmp();
        assert_eq!(bmp.len(), 54 + 2 * 12);
        assert_eq!(bmp[2..6], (bmp.len() as u32).to_le_bytes());
        assert_eq!(bmp[54..57], [picture.pixels[11], picture.pixels[10], picture.pixels[9]]);
    }
}
