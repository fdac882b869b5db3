print("fusionroute")
