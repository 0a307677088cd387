//! What the macros expand to, as text.

use proc_macro2::TokenStream;
use quote::quote;

use crate::expand;
use crate::parse::Kind;

fn pretty(items: TokenStream) -> String {
    let file = syn::parse2(items).expect("the macros make Rust");
    prettyplease::unparse(&file)
}

fn pretty_closure(kind: Kind, closure: TokenStream) -> String {
    let value = expand::closure(kind, closure);
    pretty(quote!(fn main() { let result = #value; }))
}

#[test]
fn a_mask_mod() {
    let item = quote! {
        /// Tokens see earlier tokens of their own document.
        #[inline]
        pub fn document_causal(b: i32, h: i32, q: i32, kv: i32, doc: View<i32, 1>) -> bool {
            doc[q] == doc[kv] && q >= kv
        }
    };
    insta::assert_snapshot!(pretty(expand::function(Kind::Mask, TokenStream::new(), item)));
}

#[test]
fn assignments_become_selections() {
    let item = quote! {
        fn count(x: i32, table: View<f32, 2>) -> f32 {
            let mut sum = 0.0;
            for i in 0..3 {
                if i < x {
                    sum += table[[x, i]];
                }
            }
            sum
        }
    };
    insta::assert_snapshot!(pretty(expand::function(Kind::Function, TokenStream::new(), item)));
}

#[test]
fn a_match_becomes_a_chain() {
    let item = quote! {
        fn steps(score: f32, b: i32, h: i32, q: i32, kv: i32, limit: u32) -> f32 {
            match q - kv {
                0 | 1 => score,
                2..=8 if h > 0 => score * 0.5,
                distance => helper(distance, limit.pow(2)),
            }
        }
    };
    insta::assert_snapshot!(pretty(expand::function(Kind::Score, TokenStream::new(), item)));
}

#[test]
fn a_closure_asks_for_the_types_of_its_captures() {
    let closure = quote!(|b, h, q, kv| q - kv <= window + 1 && doc[q] == doc[kv] && same(ids, LIMIT * 2));
    insta::assert_snapshot!(pretty_closure(Kind::Mask, closure));
}

#[test]
fn a_function_with_mistakes_keeps_its_head() {
    let item = quote! {
        fn wrong(b: i32, h: i32, q: i32, kv: i32, window: i32) -> bool {
            while q > 0 {}
            q - kv <= 0.5
        }
    };
    insta::assert_snapshot!(pretty(expand::function(Kind::Mask, TokenStream::new(), item)));
}

#[test]
fn a_closure_with_mistakes_has_its_type() {
    insta::assert_snapshot!(pretty_closure(Kind::Score, quote!(|score, b, h, q, kv| score + h)));
}
