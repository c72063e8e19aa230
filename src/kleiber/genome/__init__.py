"""References, panels, and every haplotype of them, base by base."""
