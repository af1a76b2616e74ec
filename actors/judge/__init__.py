"""Models that are asked for verdicts, scores and vectors: how they are reached, asked, cached, read and counted.

Judge: cache, bounded concurrency, JSON, repeats --> ChatModel: Scripted | Endpoint | Served --> JudgeWorker actors
"""
