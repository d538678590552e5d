pub const RULES: &[(&str, crate::Rule)] = &[];
