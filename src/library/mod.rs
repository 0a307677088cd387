//! Ready-made mods.
