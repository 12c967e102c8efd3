//! Delivery directives of a playlist request (RFC 8216bis §6.2.5): `_HLS_msn`, `_HLS_part`, `_HLS_skip`.
//!
//! Reads and judges them. Waiting is the caller's.

use super::HlsError;
use super::limits::Limits;
use super::snapshot::{Position, Snapshot};

/// The directives of one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Directives {
    /// Answer once the playlist holds this.
    pub block: Option<Position>,
    /// A delta update will do.
    pub skip: bool,
}

impl Directives {
    /// Reads a query. Unknown parameters, `_HLS_*` too, are ignored.
    pub fn parse(query: Option<&str>) -> Result<Self, HlsError> {
        let (mut sequence, mut part, mut skip) = (None, None, false);
        for pair in query.unwrap_or_default().split('&') {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            match key {
                "_HLS_msn" => set(&mut sequence, "_HLS_msn", value)?,
                "_HLS_part" => set(&mut part, "_HLS_part", value)?,
                "_HLS_skip" => skip = matches!(value, "YES" | "v2"),
                _ => {}
            }
        }
        let block = match (sequence, part) {
            (Some(sequence), part) => Some(Position { sequence, part }),
            (None, None) => None,
            (None, Some(_)) => return Err(bad("_HLS_part", "it needs _HLS_msn beside it")),
        };
        Ok(Self { block, skip })
    }

    /// Refuses what lies too far ahead of the playlist (RFC 8216bis §6.2.5.2).
    pub fn check(&self, snapshot: &Snapshot, limits: &Limits) -> Result<(), HlsError> {
        let (Some(wanted), false) = (self.block, snapshot.ended) else { return Ok(()) };
        let last = snapshot.last_complete().unwrap_or_default();
        if wanted.sequence > last.saturating_add(2) {
            return Err(HlsError::TooFarAhead { directive: "_HLS_msn", requested: wanted.sequence, last });
        }
        let Some(part) = wanted.part.filter(|_| wanted.sequence > last) else { return Ok(()) };
        let growing = snapshot.open.as_ref().filter(|open| open.sequence == wanted.sequence);
        let present = growing.map_or(0, |open| open.parts.len() as u64);
        let last = present.saturating_sub(1);
        if part > last + limits.advance_parts() {
            return Err(HlsError::TooFarAhead { directive: "_HLS_part", requested: part, last });
        }
        Ok(())
    }
}

fn set(slot: &mut Option<u64>, directive: &'static str, value: &str) -> Result<(), HlsError> {
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    let number = digits.then(|| value.parse().ok()).flatten();
    let number = number.ok_or_else(|| bad(directive, "its value must be a decimal number"))?;
    if slot.replace(number).is_some() {
        return Err(bad(directive, "it must not be given twice"));
    }
    Ok(())
}

fn bad(directive: &'static str, why: &'static str) -> HlsError {
    HlsError::BadDirective { directive, why }
}
