//! The lines that hold for WHIP and WHEP alike, as tests: the checklist of either has this file as a module, and
//! starts its own endpoint (`on`).

use crate::common::{Endpoint, Fate, Server, checklist, eventually, is_stun, problem, seconds};
use crate::on;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

async fn endpoint() -> Endpoint {
    on(Server::builder()).await
}

#[tokio::test]
async fn w01_only_application_sdp_is_taken() {
    checklist::w01(&endpoint().await).await;
}

#[tokio::test]
async fn w02_a_malformed_offer_is_400_with_a_problem_document() {
    checklist::w02(&endpoint().await).await;
}

#[tokio::test]
async fn w03_success_is_201_with_an_answer_and_a_location_that_can_not_be_guessed() {
    checklist::w03(&endpoint().await).await;
}

#[tokio::test]
async fn w06_every_candidate_is_in_the_answer() {
    checklist::w06(&endpoint().await).await;
}

#[tokio::test]
async fn w07_get_and_head_succeed_without_a_body() {
    checklist::w07(&endpoint().await).await;
}

#[tokio::test]
async fn w09_no_turn_credentials_in_a_preflight() {
    let builder = Server::builder()
        .env("TIDEGATE_WEBRTC_ICE_SERVERS", checklist::TURN)
        .env("TIDEGATE_WEBRTC_TURN_SECRET", "shared-secret");
    checklist::w09(&on(builder).await).await;
}

#[tokio::test]
async fn w10_all_media_share_one_transport() {
    checklist::w10(&endpoint().await).await;
}

#[tokio::test]
async fn w13_the_role_in_dtls_is_chosen_as_offered() {
    checklist::w13(&endpoint().await).await;
}

#[tokio::test]
async fn w17_nothing_is_redirected() {
    checklist::w17(&endpoint().await).await;
}

#[tokio::test]
async fn w18_overload_is_503_with_retry_after() {
    let off = ("TIDEGATE_LIMITS_POSTS_PER_SECOND", "off");
    let endpoint = on(Server::builder().limited().env(off.0, off.1)).await;
    let mut taken = 0;
    let refused = loop {
        let response = endpoint.post(endpoint.offer()).await;
        if response.status() != 201 {
            break response;
        }
        taken += 1;
        assert!(taken <= 500, "sessions that never connect have no limit");
    };
    assert!(taken >= 20, "{taken}");
    checklist::retry_after(&refused);
    problem(refused, 503).await;
}

#[tokio::test]
async fn w19_requests_are_limited_by_source() {
    let limit = ("TIDEGATE_LIMITS_SESSION_REQUESTS_PER_SECOND", "10");
    checklist::w19(&on(Server::builder().limited().env(limit.0, limit.1)).await).await;
}

#[tokio::test]
async fn w20_a_session_is_its_principals() {
    checklist::w20_principal(&mut endpoint().await, "whoever-it-is").await;
}

#[tokio::test]
async fn w20_a_session_is_its_whole_path() {
    checklist::w20(&endpoint().await).await;
}

#[tokio::test]
async fn w30_a_patch_is_a_fragment() {
    checklist::w30(&endpoint().await).await;
}

#[tokio::test]
async fn w32_the_201_has_a_strong_entity_tag() {
    checklist::w32(&endpoint().await).await;
}

#[tokio::test]
async fn w33_patch_without_if_match_is_428_and_a_stale_one_is_412() {
    checklist::w33(&endpoint().await).await;
}

#[tokio::test]
async fn w34_trickling_is_answered_with_204_alone() {
    checklist::w34(&endpoint().await).await;
}

#[tokio::test]
async fn w35_candidates_that_are_of_no_use_are_passed_over() {
    checklist::w35(&endpoint().await).await;
}

#[tokio::test]
async fn w35_host_names_are_never_looked_up() {
    checklist::w35_names(&on(Server::builder().env("TIDEGATE_WEBRTC_ICE", "full")).await).await;
}

#[tokio::test]
async fn w36_other_credentials_are_a_restart() {
    checklist::w36(&endpoint().await).await;
}

#[tokio::test]
async fn w38_patches_may_overlap() {
    checklist::w38(&endpoint().await).await;
}

#[tokio::test]
async fn w40_after_the_end_no_stun_is_answered() {
    let endpoint = endpoint().await;
    let mut client = endpoint.client().await;
    client.connected().await;
    let answers = Arc::new(AtomicUsize::new(0));
    let count = answers.clone();
    client
        .filter_incoming(move |data| {
            count.fetch_add(usize::from(is_stun(data)), Ordering::Relaxed);
            Fate::Pass
        })
        .await;
    eventually("its checks are answered", seconds(10), || async {
        (answers.load(Ordering::Relaxed) > 0).then_some(())
    })
    .await;
    assert_eq!(client.delete().await, 200);
    tokio::time::sleep(Duration::from_millis(200)).await; // what is on its way
    let before = answers.load(Ordering::Relaxed);
    client.collect(seconds(6)).await;
    assert_eq!(answers.load(Ordering::Relaxed), before);
}

#[tokio::test]
async fn w41_pages_of_all_origins_may_use_it() {
    checklist::w41(&endpoint().await).await;
}

#[tokio::test]
async fn w41_or_those_of_the_origins_that_were_chosen() {
    let builder = Server::builder().env("TIDEGATE_HTTP_CORS_ORIGINS", "https://studio.example");
    checklist::w41_some_origins(&on(builder).await).await;
}
