//! One `use` brings the native function and its mod, across modules; raw names and macros work.

mod mods {
    use flex_attention::prelude::*;

    #[mask_mod]
    pub fn document(b: i32, h: i32, q: i32, kv: i32, r#type: View<i32, 1>) -> bool {
        helpers::same(r#type[q], r#type[kv])
    }

    pub mod helpers {
        use flex_attention::prelude::mod_fn;

        #[mod_fn]
        pub fn same(x: i32, y: i32) -> bool {
            x == y
        }
    }

    macro_rules! window {
        ($name:ident, $width:expr) => {
            #[mask_mod]
            pub fn $name(b: i32, h: i32, q: i32, kv: i32) -> bool {
                q - kv <= $width
            }
        };
    }
    window!(narrow, 4);
    window!(wide, 2 * 32);
}

use flex_attention::View;
use mods::{document, narrow, wide};

fn main() {
    let ids = [0, 0, 1];
    let mask = document::bind(&ids).unwrap() & narrow::bind().unwrap() & wide::bind().unwrap();
    assert_eq!(mask.bound().captures()[0].name, "type");
    assert!(document(0, 0, 0, 1, View::new(&ids, [3]).unwrap()));
    assert!(narrow(0, 0, 4, 0) && wide(0, 0, 64, 0));
}
