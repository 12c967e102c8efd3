//! The pictures of the demo, drawn into I420 planes.

use super::mark;
use chrono::{DateTime, Local, Timelike};
use std::time::{SystemTime, UNIX_EPOCH};

/// Pixels.
pub(super) const WIDTH: usize = 1280;
pub(super) const HEIGHT: usize = 720;

/// How long the flash lasts from the beginning of a second on, in milliseconds: three frames.
const FLASH: u32 = 100;
/// Luma of the limited range.
const BLACK: u8 = 16;
const WHITE: u8 = 235;

/// The panel behind the clock: left, top, width, height.
const PANEL: [usize; 4] = [120, 400, 1040, 220];
/// A digit: width, height, and the thickness of its strokes.
const DIGIT: [usize; 3] = [64, 140, 16];
/// From digit to digit, and the width of a separator.
const ADVANCE: usize = 92;
const SEPARATOR: usize = 48;
/// The ball: radius, and the middle of its way.
const BALL: usize = 44;
const BALL_ROW: usize = 230;

/// Draws pictures over prepared backgrounds.
pub(in crate::pipeline) struct Painter {
    bars: Vec<u8>,
    flash: Vec<u8>,
}

impl Painter {
    pub(super) fn new() -> Self {
        let mut flash = vec![128; WIDTH * HEIGHT * 3 / 2];
        flash[..WIDTH * HEIGHT].fill(WHITE);
        Self { bars: colour_bars(), flash }
    }

    /// The picture for the wall-clock time `wall`, I420.
    pub(in crate::pipeline) fn paint(&self, wall: SystemTime) -> Vec<u8> {
        let millis = wall.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
        let flash = millis % 1000 < u64::from(FLASH);
        let mut picture = if flash { self.flash.clone() } else { self.bars.clone() };
        let luma = &mut picture[..WIDTH * HEIGHT];
        if !flash {
            draw_ball(luma, millis);
        }
        draw_clock(luma, wall.into(), if flash { BLACK } else { WHITE });
        mark::draw(luma, WIDTH, millis);
        picture
    }
}

/// Eight bars at 75 % over a dark panel.
fn colour_bars() -> Vec<u8> {
    let mut picture = vec![128; WIDTH * HEIGHT * 3 / 2];
    let (luma, chroma) = picture.split_at_mut(WIDTH * HEIGHT);
    let (blue, red) = chroma.split_at_mut(WIDTH * HEIGHT / 4);
    for (plane, width, component) in [(luma, WIDTH, 0), (blue, WIDTH / 2, 1), (red, WIDTH / 2, 2)] {
        let scale = WIDTH / width;
        for (row, pixels) in plane.chunks_exact_mut(width).enumerate() {
            for (column, pixel) in pixels.iter_mut().enumerate() {
                let [left, top, panel_width, panel_height] = PANEL;
                let (x, y) = (column * scale, row * scale);
                let panel = (left..left + panel_width).contains(&x) && (top..top + panel_height).contains(&y);
                *pixel = if panel { [BLACK, 128, 128] } else { bar(x * 8 / WIDTH) }[component];
            }
        }
    }
    picture
}

/// Luma and chroma of a bar, ITU-R BT.709 in the limited range: white, yellow, cyan, green, magenta,
/// red, blue, black.
fn bar(number: usize) -> [u8; 3] {
    let on = |bit: usize| if number >> bit & 1 == 0 { 0.75 } else { 0.0 };
    let (red, green, blue) = (on(1), on(2), on(0));
    let luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue;
    let chroma = |colour: f64, range: f64| (128.0 + 224.0 * (colour - luma) / range).round() as u8;
    [(16.0 + 219.0 * luma).round() as u8, chroma(blue, 1.8556), chroma(red, 1.5748)]
}

/// The ball swings from side to side every two seconds.
fn draw_ball(luma: &mut [u8], millis: u64) {
    let phase = (millis % 2000) as f64 / 2000.0 * std::f64::consts::TAU;
    let reach = (WIDTH / 2 - BALL - 20) as f64;
    let centre = (WIDTH / 2) as f64 + reach * phase.sin();
    for row in BALL_ROW - BALL..BALL_ROW + BALL {
        let height = row.abs_diff(BALL_ROW);
        let half = ((BALL * BALL - height * height) as f64).sqrt();
        let (from, to) = ((centre - half) as usize, (centre + half) as usize);
        luma[row * WIDTH + from..row * WIDTH + to].fill(WHITE);
    }
}

fn draw_clock(luma: &mut [u8], time: DateTime<Local>, ink: u8) {
    let millis = time.nanosecond() / 1_000_000 % 1000;
    let text = format!("{:02}:{:02}:{:02}.{millis:03}", time.hour(), time.minute(), time.second());
    let separators = text.chars().filter(|character| !character.is_ascii_digit()).count();
    let width = (text.len() - separators) * ADVANCE + separators * SEPARATOR - (ADVANCE - DIGIT[0]);
    let (mut left, top) = ((WIDTH - width) / 2, PANEL[1] + (PANEL[3] - DIGIT[1]) / 2);
    let mut fill = |x: usize, y: usize, width: usize, height: usize| {
        for row in luma.chunks_exact_mut(WIDTH).skip(y).take(height) {
            row[x..x + width].fill(ink);
        }
    };
    let [width, height, thick] = DIGIT;
    for character in text.chars() {
        match character.to_digit(10) {
            Some(digit) => {
                let lit = SEGMENTS[digit as usize];
                let half = height / 2;
                let strokes = [
                    (0, 0, width, thick),
                    (width - thick, 0, thick, half),
                    (width - thick, half, thick, half),
                    (0, height - thick, width, thick),
                    (0, half, thick, half),
                    (0, 0, thick, half),
                    (0, half - thick / 2, width, thick),
                ];
                for (segment, (x, y, width, height)) in strokes.into_iter().enumerate() {
                    if lit >> segment & 1 == 1 {
                        fill(left + x, top + y, width, height);
                    }
                }
                left += ADVANCE;
            }
            None => {
                if character == ':' {
                    fill(left, top + height / 4, thick, thick);
                }
                let low = if character == ':' { height * 3 / 4 - thick } else { height - thick };
                fill(left, top + low, thick, thick);
                left += SEPARATOR;
            }
        }
    }
}

/// Which of seven segments a digit lights: top, upper right, lower right, bottom, lower left, upper
/// left, middle, from the lowest bit up.
const SEGMENTS: [u8; 10] = [0x3f, 0x06, 0x5b, 0x4f, 0x66, 0x6d, 0x7d, 0x07, 0x7f, 0x6f];

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn each_picture_carries_its_time_and_the_flash_is_white() {
        let painter = Painter::new();
        for (millis, flash) in
            [(1_795_000_000_000, true), (1_795_000_000_099, true), (1_795_000_000_100, false)]
        {
            let picture = painter.paint(UNIX_EPOCH + Duration::from_millis(millis));
            assert_eq!(mark::read(&picture, WIDTH), Some(millis));
            let luma = picture[..WIDTH * HEIGHT].iter().map(|&pixel| f64::from(pixel)).sum::<f64>();
            let mean = luma / (WIDTH * HEIGHT) as f64;
            assert_eq!(mean > 200.0, flash, "mean luma {mean} at {millis}");
        }
    }
}
