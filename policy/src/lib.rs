//! Who may connect: the pure evaluator of Weft's policies.
