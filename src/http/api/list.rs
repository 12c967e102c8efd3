//! Lists in pages: `?page=0&itemsPerPage=100`.

use crate::http::problem::Problem;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use serde::Serialize;
use std::ops::RangeInclusive;
use utoipa::{IntoParams, ToSchema};

/// Most items of a page, and how many it has unless something else is asked for.
const MOST: usize = 1000;
const USUAL: usize = 100;

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

/// One page of a list.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
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

    /// The wanted page of `all`; only its items are turned into what is shown.
    pub(in crate::http) fn of<T, V>(
        self,
        all: impl IntoIterator<Item = T>,
        show: impl Fn(T) -> V,
    ) -> List<V> {
        let start = self.page.saturating_mul(self.items_per_page);
        let end = start.saturating_add(self.items_per_page);
        let (mut items, mut item_count) = (Vec::new(), 0);
        for item in all {
            if (start..end).contains(&item_count) {
                items.push(item);
            }
            item_count += 1;
        }
        let items = items.into_iter().map(show).collect();
        List { items, item_count, page_count: item_count.div_ceil(self.items_per_page) }
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
