"""How it is computed: few-step schedules and ensembling."""
