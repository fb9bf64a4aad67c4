"""What a study will cost before any of it is run: jobs, operations, hours, memory and disk by model and stage."""
