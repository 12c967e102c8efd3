//! Lists in pages: `?page=0&itemsPerPage=100`.

use crate::http::problem::Problem;
use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use serde::{Deserialize, Serialize};

/// Most items of a page.
const MOST: usize = 1000;

/// Which page is wanted.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Page {
    /// From 0.
    #[serde(default)]
    page: usize,
    #[serde(default = "Page::usual")]
    items_per_page: usize,
}

/// One page of a list.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct List<T> {
    items: Vec<T>,
    item_count: usize,
    page_count: usize,
}

impl Page {
    fn usual() -> usize {
        100
    }

    /// The wanted page of `all`, each of its items turned into what is shown.
    pub(super) fn of<T, V>(self, all: Vec<T>, show: impl Fn(T) -> V) -> List<V> {
        let item_count = all.len();
        let start = self.page.saturating_mul(self.items_per_page);
        let items = all.into_iter().skip(start).take(self.items_per_page).map(show).collect();
        List { items, item_count, page_count: item_count.div_ceil(self.items_per_page) }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Page {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Query(page) = Query::<Self>::from_request_parts(parts, state)
            .await
            .map_err(|error| Problem::bad_request("bad-query", error.body_text()))?;
        if !(1..=MOST).contains(&page.items_per_page) {
            let detail = format!("itemsPerPage is {}; it must be from 1 to {MOST}", page.items_per_page);
            return Err(Problem::bad_request("bad-query", detail));
        }
        Ok(page)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_cut_into_pages() {
        let page = |page, items_per_page| {
            let list = Page { page, items_per_page }.of(vec![1, 2, 3, 4, 5], |number| number * 10);
            (list.items, list.item_count, list.page_count)
        };
        assert_eq!(page(0, 2), (vec![10, 20], 5, 3));
        assert_eq!(page(2, 2), (vec![50], 5, 3));
        assert_eq!(page(usize::MAX, 2), (vec![], 5, 3));
        assert_eq!(page(0, 5), (vec![10, 20, 30, 40, 50], 5, 1));
    }
}
