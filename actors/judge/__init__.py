"""Chat models that are asked for verdicts: how they are reached, asked, cached, read and counted.

Judge: cache, bounded concurrency, JSON, repeats --> ChatModel: Scripted | Endpoint | Served --> JudgeWorker actors
"""
