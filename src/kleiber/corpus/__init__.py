"""What training reads: windows as a pure function of (seed, i), drawn by three strategies."""
