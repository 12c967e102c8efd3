//! The layer extension of WHEP: a player chooses an encoding of a simulcast stream
//! (draft-ietf-wish-whep-events, "Video Layer Selection extension").

use super::resource::SessionPath;
use crate::http::problem::Problem;
use crate::http::request::Peer;
use crate::http::{App, cors};
use crate::stream::LayerInfo;
use crate::webrtc::LayerSelection;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, StatusCode};
use axum::routing::{MethodRouter, post};
use serde::Deserialize;
use std::sync::Arc;

const RELATION: &str = "urn:ietf:params:whep:ext:core:layer";

/// What a player asks for. Fields that are not known are passed over.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Wish {
    /// The index of the m-section, as text; the first video section if left out.
    media_id: Option<String>,
    rid: Option<String>,
    /// What earlier drafts called `rid`.
    encoding_id: Option<String>,
    max_width: Option<u32>,
    max_height: Option<u32>,
    spatial_layer_id: Option<u32>,
    temporal_layer_id: Option<u32>,
    max_spatial_layer_id: Option<u32>,
    max_temporal_layer_id: Option<u32>,
}

/// The `Link` that tells of the extension; `session` is the session's path.
pub(super) fn link(session: &str) -> String {
    format!("<{session}/layer>; rel=\"{RELATION}\"")
}

pub(super) fn routes() -> MethodRouter<Arc<App>> {
    post(|State(app): State<Arc<App>>, Peer(peer), path: SessionPath, request: Request<Body>| async move {
        let (entry, wish): (_, Wish) = app.admit_wish(peer.ip(), &path, request).await?;
        let stream = app.rooms.hub.get(&path.stream).filter(|_| !entry.transcoded);
        let layers = stream.map(|stream| stream.layers()).unwrap_or_default();
        let selection = wish.selection(entry.video, &layers)?;
        app.rooms.webrtc.select_layer(&path.session, selection).await?;
        Ok::<_, Problem>(StatusCode::OK)
    })
    .options(|| async { cors::preflight("OPTIONS, POST") })
}

impl Wish {
    fn selection(self, video: Option<usize>, layers: &[LayerInfo]) -> Result<LayerSelection, Problem> {
        let fits = |id: &String| video.is_some_and(|video| id.parse() == Ok(video));
        if let Some(other) = self.media_id.filter(|id| !id.is_empty() && !fits(id)) {
            let right = video.map_or("there is none".to_owned(), |video| format!("that is {video}"));
            return Err(refused(format!(
                "mediaId {other:?} is not the index of the video m-section: {right}"
            )));
        }
        // Zero is what there is without spatial layers.
        let within = self.spatial_layer_id.filter(|id| *id > 0);
        let within =
            within.or(self.temporal_layer_id).or(self.max_spatial_layer_id).or(self.max_temporal_layer_id);
        if within.is_some() {
            return Err(refused(
                "encodings are sent whole, without choice of spatial or temporal layers: choose by rid, maxWidth or maxHeight",
            ));
        }
        if let Some(rid) = self.rid.or(self.encoding_id).filter(|rid| !rid.is_empty()) {
            return Ok(LayerSelection::Rid(rid));
        }
        let (width, height) = (self.max_width.unwrap_or(u32::MAX), self.max_height.unwrap_or(u32::MAX));
        if (width, height) == (u32::MAX, u32::MAX) {
            return Ok(LayerSelection::Automatic);
        }
        let fits = |layer: &&LayerInfo| layer.resolution.is_some_and(|(w, h)| w <= width && h <= height);
        match layers.iter().find(fits) {
            Some(layer) => Ok(LayerSelection::Rid(layer.rid.clone())),
            None => Err(refused("no encoding is as small as that")),
        }
    }
}

fn refused(detail: impl AsRef<str>) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "unknown-layer", detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::webrtc::LayerSelection::{Automatic, Rid};

    fn select(wish: &str) -> Option<LayerSelection> {
        let layer = |rid: &str, width, height| LayerInfo {
            rid: rid.to_owned(),
            resolution: Some((width, height)),
            bitrate: 1,
            active: true,
        };
        let layers = [layer("f", 1280, 720), layer("h", 640, 360), layer("q", 320, 180)];
        let wish: Wish = serde_json::from_str(wish).expect("JSON");
        wish.selection(Some(1), &layers).ok()
    }

    #[test]
    fn e07_layers_are_chosen_by_rid_or_by_size() {
        for (wish, selection) in [
            ("{}", Some(Automatic)),
            (r#"{"mediaId": "1", "rid": ""}"#, Some(Automatic)),
            (r#"{"mediaId": "1", "rid": "h"}"#, Some(Rid("h".into()))),
            (r#"{"encodingId": "q", "spatialLayerId": 0, "other": 1}"#, Some(Rid("q".into()))),
            (r#"{"maxHeight": 400}"#, Some(Rid("h".into()))),
            (r#"{"maxWidth": 4000}"#, Some(Rid("f".into()))),
            (r#"{"maxWidth": 10}"#, None),
            (r#"{"mediaId": "0", "rid": "h"}"#, None),
            (r#"{"temporalLayerId": 1}"#, None),
        ] {
            assert_eq!(select(wish), selection, "{wish}");
        }
    }
}
