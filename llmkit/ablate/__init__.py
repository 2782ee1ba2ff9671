"""The ablation lab: from a difference between specs to matched arms, paired seeds, and a verdict. Importing it imports no torch."""
