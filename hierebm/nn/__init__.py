"""hierebm.nn"""
