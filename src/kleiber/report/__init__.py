"""From a finished study to a page for a colleague: `reader` → `figures`, `tables`, `findings` → `page`."""
