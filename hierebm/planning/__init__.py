"""hierebm.planning"""
