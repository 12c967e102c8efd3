//! Lists in pages: `?page=0&itemsPerPage=100`.
//!
//! A page may be a megabyte. It is written in stretches of some items, and between two of them others get
//! their turn: media run on the same threads.

use crate::http::problem::Problem;
use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::response::Response;
use serde::Serialize;
use std::ops::RangeInclusive;
use utoipa::{IntoParams, ToSchema};

/// Most items of a page, and how many it has unless something else is asked for.
const MOST: usize = 1000;
const USUAL: usize = 100;
/// Items that are written at a stretch: some hundred microseconds.
const STRETCH: usize = 50;

/// Which page is wanted.
#[derive(Clone, Copy, Debug, IntoParams)]
#[into_params(parameter_in = Query, rename_all = "camelCase")]
pub(in crate::http) struct Page {
    /// Which page, from 0. A page behind the last is empty.
    #[param(minimum = 0, default = 0, required = false)]
    page: usize,
    /// How many items a page has.
    #[param(minimum = 1, maximum = 1000, default = 100, required = false)]
    items_per_page: usize,
}

/// One page of a list, as [`Page::answer`] writes it.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "camelCase")]
#[allow(dead_code)] // it describes, and is never made
pub(in crate::http) struct List<T> {
    /// The items of this page.
    items: Vec<T>,
    /// Items on all pages.
    item_count: usize,
    /// Pages of this size.
    page_count: usize,
}

impl Page {
    /// Reads a query: the page, and the values of the `filters` that it may hold besides.
    pub(in crate::http) fn read<const N: usize>(
        query: &str,
        filters: [&str; N],
    ) -> Result<(Self, [Option<String>; N]), Problem> {
        let mut page = Self { page: 0, items_per_page: USUAL };
        let mut found = [const { None }; N];
        for (parameter, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match &*parameter {
                "page" => page.page = number("page", &value, 0..=usize::MAX)?,
                "itemsPerPage" => page.items_per_page = number("itemsPerPage", &value, 1..=MOST)?,
                other => match filters.iter().position(|filter| *filter == other) {
                    Some(index) => found[index] = Some(value.into_owned()),
                    None => return Err(unknown(other, &filters)),
                },
            }
        }
        Ok((page, found))
    }

    /// An answer with the wanted page of `all`: a [`List`]. Only the page's items are turned into what is shown.
    pub(in crate::http) async fn answer<T, V: Serialize>(
        self,
        all: impl IntoIterator<Item = T>,
        show: impl Fn(T) -> V,
    ) -> Response {
        let (items, item_count) = self.cut(all);
        let mut json = b"{\"items\":[".to_vec();
        for (position, item) in items.into_iter().enumerate() {
            if position > 0 {
                json.push(b',');
                if position % STRETCH == 0 {
                    tokio::task::yield_now().await;
                }
            }
            serde_json::to_writer(&mut json, &show(item))
                .expect("views are of what JSON has, and memory takes all");
        }
        let page_count = item_count.div_ceil(self.items_per_page);
        json.extend_from_slice(
            format!("],\"itemCount\":{item_count},\"pageCount\":{page_count}}}").as_bytes(),
        );
        let mut response = Response::new(Body::from(json));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }

    /// The items of this page, and how many there are on all pages.
    fn cut<T>(self, all: impl IntoIterator<Item = T>) -> (Vec<T>, usize) {
        let start = self.page.saturating_mul(self.items_per_page);
        let end = start.saturating_add(self.items_per_page);
        let (mut items, mut item_count) = (Vec::new(), 0);
        for item in all {
            if (start..end).contains(&item_count) {
                items.push(item);
            }
            item_count += 1;
        }
        (items, item_count)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Page {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let (page, []) = Self::read(parts.uri.query().unwrap_or_default(), [])?;
        Ok(page)
    }
}

fn number(parameter: &str, value: &str, fitting: RangeInclusive<usize>) -> Result<usize, Problem> {
    value.parse().ok().filter(|number| fitting.contains(number)).ok_or_else(|| {
        let bounds = match *fitting.end() {
            usize::MAX => format!("from {}", fitting.start()),
            end => format!("from {} to {end}", fitting.start()),
        };
        let detail = format!("{parameter} is {value:?}; it must be a number {bounds}");
        Problem::bad_request("bad-query", detail)
    })
}

fn unknown(parameter: &str, filters: &[&str]) -> Problem {
    let known: Vec<&str> = ["page", "itemsPerPage"].into_iter().chain(filters.iter().copied()).collect();
    let detail = format!("there is no parameter {parameter:?} here; there are {}", known.join(", "));
    Problem::bad_request("bad-query", detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;
    use serde_json::{Value, json};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    async fn page(page: usize, items_per_page: usize, of: u32) -> Value {
        let response = Page { page, items_per_page }.answer(1..=of, |number| number * 10).await;
        assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
        let body = response.into_body().collect().await.expect("whole").to_bytes();
        serde_json::from_slice(&body).expect("JSON")
    }

    #[tokio::test]
    async fn a_list_is_cut_into_pages() {
        for (at, items_per_page, items, page_count) in [
            (0, 2, json!([10, 20]), 3),
            (2, 2, json!([50]), 3),
            (usize::MAX, 2, json!([]), 3),
            (0, 5, json!([10, 20, 30, 40, 50]), 1),
        ] {
            let expected = json!({ "items": items, "itemCount": 5, "pageCount": page_count });
            assert_eq!(page(at, items_per_page, 5).await, expected);
        }
    }

    #[tokio::test]
    async fn others_get_their_turn_while_a_long_page_is_written() {
        let turns = Arc::new(AtomicUsize::new(0));
        let counted = turns.clone();
        let other = tokio::spawn(async move {
            loop {
                counted.fetch_add(1, Relaxed);
                tokio::task::yield_now().await;
            }
        });
        let list = page(0, MOST, 1000).await;
        assert_eq!(list["items"].as_array().map(Vec::len), Some(1000));
        assert!(turns.load(Relaxed) >= 1000 / STRETCH - 1, "{turns:?}");
        other.abort();
    }

    #[test]
    fn a_query_says_what_is_wrong_with_it() {
        let read = |query| Page::read(query, ["kind"]);
        let (page, [kind]) = read("itemsPerPage=5&kind=rt%6Dp&page=2").expect("fine");
        assert_eq!((page.page, page.items_per_page, kind.as_deref()), (2, 5, Some("rtmp")));
        for (query, wanted) in [
            ("page=-1", "a number from 0"),
            ("page=x", "page is \"x\""),
            ("itemsPerPage=0", "from 1 to 1000"),
            ("itemsPerPage=1001", "from 1 to 1000"),
            ("sort=name", "there are page, itemsPerPage, kind"),
        ] {
            let problem = format!("{:?}", read(query).expect_err("wrong"));
            assert!(problem.replace("\\\"", "\"").contains(wanted), "{query}: {problem}");
        }
    }
}
