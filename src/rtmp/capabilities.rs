//! What the answer to `connect` says of Enhanced RTMP (Enhanced RTMP v2, "Enhancing NetConnection connect
//! Command"): codecs by FourCC, and extensions.

use super::amf;
use rml_rtmp::rml_amf0::Amf0Value;

/// Video that a publisher may send.
const VIDEO: [&str; 4] = ["avc1", "hvc1", "av01", "vp09"];
/// Sound that a publisher may send.
const AUDIO: [&str; 3] = ["mp4a", "Opus", ".mp3"];

/// `FourCcInfoMask`: it is decoded where an output needs that, and forwarded where none does.
const CAN_DECODE: u8 = 0x01;
const CAN_FORWARD: u8 = 0x04;

/// `CapsExMask`: the peer takes a request to connect again.
pub(super) const RECONNECT: u8 = 0x01;
const MULTITRACK: u8 = 0x02;
const MOD_EX: u8 = 0x04;
const TIMESTAMP_NANO_OFFSET: u8 = 0x08;

/// Properties for the object of a `connect` result, beside `fmsVer` and `capabilities`.
pub(super) fn properties() -> [(&'static str, Amf0Value); 4] {
    let codecs = VIDEO.iter().chain(&AUDIO).map(|code| amf::text(code));
    [
        ("fourCcList", Amf0Value::StrictArray(codecs.collect())),
        ("videoFourCcInfoMap", information(&VIDEO)),
        ("audioFourCcInfoMap", information(&AUDIO)),
        ("capsEx", Amf0Value::Number((RECONNECT | MULTITRACK | MOD_EX | TIMESTAMP_NANO_OFFSET).into())),
    ]
}

fn information(codes: &[&str]) -> Amf0Value {
    let flags = Amf0Value::Number((CAN_DECODE | CAN_FORWARD).into());
    Amf0Value::Object(codes.iter().map(|code| ((*code).to_owned(), flags.clone())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r16_codecs_and_extensions_are_stated() {
        let [(list, codes), (video, map), .., (caps, flags)] = properties();
        assert_eq!((list, video, caps), ("fourCcList", "videoFourCcInfoMap", "capsEx"));
        let Amf0Value::StrictArray(codes) = codes else { panic!("{codes:?}") };
        assert!(codes.contains(&amf::text("hvc1")) && codes.contains(&amf::text("Opus")));
        let Amf0Value::Object(map) = map else { panic!("{map:?}") };
        assert_eq!((map.len(), map.get("av01")), (4, Some(&Amf0Value::Number(5.0))));
        assert_eq!(flags, Amf0Value::Number(15.0));
    }
}
