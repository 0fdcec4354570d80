"""Where rows come from, how they are split and packed, and the rows that people labelled."""
