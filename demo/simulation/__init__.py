"""The job's loop in one process, without services: for choosing the student and the job's settings on the dev split."""
