//! Each target with its corpus, and a fixed number of changes of it.

macro_rules! tests {
    ($($name:ident: $module:ident::$run:ident, $rounds:literal;)*) => {
        mod no_input_breaks {
            $(
                #[test]
                fn $name() {
                    wasaba_fuzz::replay::replay(wasaba_fuzz::target(stringify!($name)).unwrap());
                }
            )*
        }
    };
}

wasaba_fuzz::every_target!(tests);
